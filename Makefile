# Two commands do everything on a fresh machine: `make demo` and `make test`.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
DEMO = target/demo

.PHONY: demo test lab lint bench install build

build:
	$(CARGO) build --release --workspace --bins

# Swap lb, then edge, under load: five and more good successors each, one bad, a ledger that must be clean.
demo: build
	mkdir -p $(DEMO)
	cp target/release/lb $(DEMO)/lb
	cp target/release/edge $(DEMO)/edge
	BUILD_VERSION=0.1.0-next $(CARGO) build --release --bin lb --bin edge
	cp target/release/lb $(DEMO)/lb-next
	cp target/release/edge $(DEMO)/edge-next
	$(CARGO) build --release --bin lb --bin edge
	target/release/bench demo --lb $(DEMO)/lb --successor $(DEMO)/lb-next \
	    --edge $(DEMO)/edge --edge-successor $(DEMO)/edge-next

# cargo-nextest runs each scenario in a process of its own; without it, cargo's own runner does.
test:
	scripts/setup
	scripts/check-units
	$(CARGO) build --workspace --bins
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --workspace $(if $(CI),--profile ci); \
	else \
	    $(CARGO) test --workspace --all-targets -- --test-threads 2; \
	fi
	$(CARGO) test --workspace --doc

# Whole hosts with a real systemd, in namespaces: the shipped units, each event under load. As root.
lab:
	scripts/lab-roots
	$(CARGO) build --workspace --bins
	rm -f target/tmp/lab-*.md
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run -p tests --test lab $(if $(CI),--profile ci); \
	else \
	    $(CARGO) test -p tests --test lab -- --test-threads 2; \
	fi
	@cat target/tmp/lab-*.md

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p tests --test lab -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

# The demo with more clients, then our proxies beside HAProxy and nginx: a table, and a page with plots.
bench: build
	scripts/setup bench
	target/release/bench demo --swaps 5 --connections 400
	target/release/bench compare --report target/compare.html

# `BINARIES=target/debug` installs what is built there already; the lab does.
BINARIES ?= target/release
install: $(if $(filter target/release,$(BINARIES)),build)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/zeitwork
	install -d $(DESTDIR)/etc/zeitwork $(DESTDIR)/usr/lib/sysusers.d $(DESTDIR)/etc/systemd/system
	install -m 755 $(BINARIES)/lb $(DESTDIR)$(PREFIX)/bin/zeitwork-load-balancer
	install -m 755 $(BINARIES)/edge $(DESTDIR)$(PREFIX)/bin/zeitwork-edge-proxy
	install -m 755 $(BINARIES)/supervisor $(DESTDIR)$(PREFIX)/bin/zeitwork-supervisor
	install -m 644 systemd/*.service systemd/*.socket $(DESTDIR)/etc/systemd/system
	install -m 644 systemd/zeitwork.sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/zeitwork.conf
	install -m 644 docs/*.md $(DESTDIR)$(PREFIX)/share/doc/zeitwork
	install -m 644 docs/examples/*.toml $(DESTDIR)$(PREFIX)/share/doc/zeitwork
	@# A person's own configuration is never overwritten. The services read theirs as the user zeitwork, so it is
	@# readable; the environment is read by the service manager.
	for file in load-balancer.toml edge-proxy.toml; do \
	    test -e $(DESTDIR)/etc/zeitwork/$$file || install -m 644 systemd/$$file $(DESTDIR)/etc/zeitwork/$$file; \
	done
	for file in load-balancer.env edge-proxy.env; do \
	    test -e $(DESTDIR)/etc/zeitwork/$$file || install -m 640 systemd/$$file $(DESTDIR)/etc/zeitwork/$$file; \
	done
