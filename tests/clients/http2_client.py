"""A client of HTTP/2 that shows single frames: streams, flow control, trailers, resets, GOAWAY.

    http2_client.py CASE PORT [CA]      without CA: in clear, by prior knowledge

Ends with 0 and a line about what was seen, or with a traceback.
"""

import fcntl
import hashlib
import json
import socket
import ssl
import sys
import termios
import time

import h2.config
import h2.connection
import h2.events
import h2.settings

DEADLINE = 30

# The library takes a connection for closed at the first GOAWAY, frames of streams under way included; RFC 9113
# (6.8) lets them end. Ours stays open, and whoever uses it begins no stream after a GOAWAY.
h2.connection.H2ConnectionStateMachine._transitions[
    (h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY)
] = (None, h2.connection.ConnectionState.CLIENT_OPEN)


class Connection:
    """One connection; what each stream received is kept under its number."""

    def __init__(self, port, authority_file=None):
        self.port = port
        self.scheme = "https" if authority_file else "http"
        plain = socket.create_connection(("127.0.0.1", port), DEADLINE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if authority_file:
            context = ssl.create_default_context(cafile=authority_file)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(plain, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2", self.socket.selected_alpn_protocol()
        else:
            self.socket = plain
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(
            initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20}
        )
        self.h2.initiate_connection()
        self.status, self.body, self.trailers, self.ended, self.reset = {}, {}, {}, set(), {}
        self.went_away, self.closed = [], False
        # Streams whose windows are not given back, and the heads before the final ones.
        self.deaf, self.hints = set(), {}
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def request(self, path, method="GET", end=True, more=()):
        stream = self.h2.get_next_available_stream_id()
        fields = [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", f"localhost:{self.port}"),
            (":path", path),
            *more,
        ]
        self.body[stream] = b""
        self.h2.send_headers(stream, fields, end_stream=end)
        self.flush()
        return stream

    def turn(self):
        """Reads once and notes what came."""
        data = self.socket.recv(65536)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self.note(event)
        self.flush()

    def note(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.status[event.stream_id] = dict(event.headers)[":status"]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            self.hints[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            self.body[event.stream_id] += event.data
            if event.flow_controlled_length and event.stream_id not in self.deaf:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.reset[event.stream_id] = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.went_away.append((int(event.error_code), event.last_stream_id))

    def until(self, what, condition):
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"not in time: {what}; {self.seen()}"
            assert not self.closed, f"the connection closed before: {what}; {self.seen()}"
            self.turn()

    def until_nothing_more_fits(self):
        """Reads nothing until the socket has stopped filling: whoever sends to us has to wait."""
        deadline, before, same = time.monotonic() + DEADLINE, 0, 0
        while same < 5:
            assert time.monotonic() < deadline, f"still filling: {before} bytes"
            waiting = int.from_bytes(fcntl.ioctl(self.socket, termios.FIONREAD, b"\0" * 4), sys.byteorder)
            same = same + 1 if waiting == before > 0 else 0
            before = waiting
            time.sleep(0.05)

    def seen(self):
        return {
            "status": self.status,
            "bytes": {stream: len(body) for stream, body in self.body.items()},
            "ended": sorted(self.ended),
            "reset": self.reset,
            "GOAWAY": self.went_away,
        }

    def send_body(self, stream, body):
        """Sends within both windows, reading while they are closed."""
        at = 0
        while at < len(body):
            self.until("a window", lambda: self.h2.local_flow_control_window(stream) > 0)
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            self.h2.send_data(stream, body[at : at + room])
            at += room
            self.flush()
        self.h2.end_stream(stream)
        self.flush()


def pattern(length):
    return bytes(number * 7 % 251 for number in range(1009)) * (length // 1009 + 1)


def streams(connection):
    """Downloads of several sizes at once on one connection."""
    sizes = [0, 1, 100, 65_536, 300_000, 1_000_000, 7, 2_000_000]
    wanted = {connection.request(f"/bytes/{size}"): size for size in sizes}
    connection.until("all streams", lambda: connection.ended >= set(wanted))
    block = b"".join(number.to_bytes(4, "big") for number in range(16384))
    for stream, size in wanted.items():
        assert connection.status[stream] == "200", connection.seen()
        assert connection.body[stream] == (block * 40)[:size], f"the bytes of stream {stream}"
    head = connection.request("/bytes/5", "HEAD")
    connection.until("HEAD", lambda: head in connection.ended)
    assert connection.status[head] == "200" and not connection.body[head], connection.seen()
    return f"{len(wanted)} streams, {sum(sizes)} bytes"


def upload(connection):
    """Far more than every window, on two streams in turn."""
    bodies = {}
    for length in (3_000_000, 1_500_000):
        stream = connection.request("/upload", "POST", end=False)
        bodies[stream] = pattern(length)[:length]
        connection.send_body(stream, bodies[stream])
    connection.until("both answers", lambda: connection.ended >= set(bodies))
    for stream, body in bodies.items():
        account = json.loads(connection.body[stream])
        assert account["length"] == len(body), account
        assert account["sha256"] == hashlib.sha256(body).hexdigest(), account
    return "4500000 bytes"


def trailers(connection):
    """Trailers of an answer, and of a request."""
    down = connection.request("/trailers", more=[("te", "trailers")])
    connection.until("the answer", lambda: down in connection.ended)
    assert connection.body[down] == b"onetwo", connection.seen()
    assert connection.trailers.get(down) == {"x-checksum": "onetwo"}, connection.trailers
    up = connection.request("/upload", "POST", end=False, more=[("trailer", "x-sum")])
    connection.h2.send_data(up, b"body")
    connection.h2.send_headers(up, [("x-sum", "4")], end_stream=True)
    connection.flush()
    connection.until("the answer", lambda: up in connection.ended)
    account = json.loads(connection.body[up])
    assert account["length"] == 4, account
    assert account["trailers"] == {"x-sum": "4"}, account
    return "both ways"


def reset(connection):
    """One stream is given up; the others and the connection go on."""
    kept = connection.request("/bytes/1000000")
    given_up = connection.request("/slow/20000")
    half_sent = connection.request("/upload", "POST", end=False)
    connection.h2.send_data(half_sent, b"never finished")
    connection.flush()
    connection.until("the first part", lambda: connection.body[given_up])
    connection.h2.reset_stream(given_up, 8)
    connection.h2.reset_stream(half_sent, 8)
    connection.flush()
    later = connection.request("/bytes/10")
    connection.until("the others", lambda: connection.ended >= {kept, later})
    assert len(connection.body[kept]) == 1_000_000, connection.seen()
    assert connection.status[later] == "200", connection.seen()
    assert not connection.went_away, connection.seen()
    return "the others ended"


def late(connection):
    """Asks for more than anybody lets wait, reads nothing meanwhile, asks on, and then wants it all."""
    connection.h2.increment_flow_control_window(1 << 28)
    wanted = [connection.request("/bytes/400000") for _ in range(60)]
    connection.until_nothing_more_fits()
    for number in range(150):
        connection.h2.ping(number.to_bytes(8, "big"))
    wanted += [connection.request("/bytes/10") for _ in range(20)]
    connection.until("all of it", lambda: connection.ended >= set(wanted))
    for stream in wanted:
        assert connection.status[stream] == "200", connection.seen()
        assert len(connection.body[stream]) in (10, 400_000), connection.seen()
    return f"{len(wanted)} streams"


def shut(connection):
    """A stream whose window stays shut is in nobody's way, and goes on once it is opened."""
    connection.h2.increment_flow_control_window(1 << 28)
    shut = connection.request("/bytes/3000000")
    connection.deaf.add(shut)
    connection.until("a full window", lambda: len(connection.body[shut]) == 1 << 20)
    others = [connection.request("/bytes/500000") for _ in range(10)]
    connection.until("the others", lambda: connection.ended >= set(others))
    assert shut not in connection.ended and len(connection.body[shut]) == 1 << 20, connection.seen()
    connection.deaf.clear()
    connection.h2.increment_flow_control_window(1 << 22, shut)
    connection.flush()
    connection.until("the rest", lambda: shut in connection.ended)
    assert len(connection.body[shut]) == 3_000_000, connection.seen()
    return "the others ended first"


def shut_for_good(connection):
    """A stream whose window is never opened is given up by edge; the connection is not."""
    shut = connection.request("/bytes/3000000")
    connection.deaf.add(shut)
    connection.until("the end of patience", lambda: shut in connection.reset)
    assert connection.reset[shut] == 8, connection.seen()
    assert len(connection.body[shut]) < 3_000_000, connection.seen()
    connection.h2.increment_flow_control_window(1 << 22)
    later = connection.request("/bytes/10")
    connection.until("the next", lambda: later in connection.ended)
    assert not connection.went_away, connection.seen()
    return "CANCEL"


def byte_by_byte(connection):
    """A window that is opened a byte at a time is never shut for long; the request's whole time ends it."""
    stream = connection.request("/bytes/3000000")
    connection.deaf.add(stream)
    connection.h2.increment_flow_control_window(1 << 22)
    connection.until("a full window", lambda: len(connection.body[stream]) == 1 << 20)
    connection.socket.settimeout(0.2)
    deadline = time.monotonic() + DEADLINE
    while stream not in connection.reset:
        assert time.monotonic() < deadline, connection.seen()
        connection.h2.increment_flow_control_window(1, stream)
        connection.flush()
        try:
            connection.turn()
        except TimeoutError:
            pass
    assert not connection.went_away, connection.seen()
    return "ended"


def hints(connection):
    """An interim answer comes before the final one (RFC 8297)."""
    stream = connection.request("/hints")
    connection.until("the answer", lambda: stream in connection.ended)
    seen = connection.hints[stream]
    assert (seen[":status"], seen["link"]) == ("103", "</style.css>; rel=preload"), seen
    assert (connection.status[stream], connection.body[stream]) == ("200", b"hinted"), connection.seen()
    return seen["link"]


def early(connection):
    """An answer before the body is whole takes back the rest, and nothing else."""
    big = connection.request("/upload", "POST", end=False, more=[("content-length", str(1 << 40))])
    connection.until("the refusal", lambda: big in connection.ended)
    assert connection.status[big] == "413", connection.seen()
    connection.until("the end of the upload", lambda: big in connection.reset)
    assert connection.reset[big] == 0, connection.seen()
    after = connection.request("/bytes/10")
    connection.until("the next", lambda: after in connection.ended)
    assert not connection.went_away, connection.seen()
    return "NO_ERROR"


def goaway(connection):
    """Says `ready` with a request under way; the test then drains edge."""
    slow = connection.request("/slow/3000")
    connection.until("the first part", lambda: connection.body[slow])
    print("ready", flush=True)
    connection.until("GOAWAY", lambda: connection.went_away)
    connection.until("the request", lambda: slow in connection.ended)
    assert connection.body[slow] == b"part" * 10, connection.seen()
    while not connection.closed:
        connection.turn()
    codes = [code for code, _ in connection.went_away]
    assert set(codes) == {0}, connection.went_away
    last = [stream for _, stream in connection.went_away]
    assert last == sorted(last, reverse=True) and last[-1] >= slow, connection.went_away
    assert len(last) >= 2 and last[0] == 2**31 - 1, f"a GOAWAY in two steps: {last}"
    return f"GOAWAY {last}"


CASES = {case.__name__: case for case in (streams, upload, trailers, reset, late, shut, shut_for_good, byte_by_byte, hints, early, goaway)}

if __name__ == "__main__":
    print(CASES[sys.argv[1]](Connection(int(sys.argv[2]), *sys.argv[3:4])))
