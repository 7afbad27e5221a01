"""Mixed load over TLS with an account of every request: HTTP/1.1, HTTP/2, gRPC, WebSocket, 20 MB both ways.

    mixed_load.py PORT CA [KIND…]

Prints the account as one line of JSON a few times a second; ends with its input, then prints the last one:
{"KIND": {"ok": N, "failed": {REASON: N}, "raced": N, "connections": N}, …, "ended": true}

What a client library does is done and counted apart: after `Connection: close` or GOAWAY a new connection; a
request that GOAWAY names as not processed goes to the new one; an idempotent request whose reused connection
ended before a byte of the answer is sent once more (`raced`).
"""

import hashlib
import http.client
import itertools
import json
import ssl
import sys
import threading
import time
import traceback

import grpc
import websockets.sync.client

import grpc_client
import http2_client

DEADLINE = 60
LARGE = 20_000_000

stop = threading.Event()
lock = threading.Lock()
account = {}


def count(kind, what, reason=None):
    with lock:
        entry = account.setdefault(kind, {"ok": 0, "failed": {}, "raced": 0, "connections": 0})
        if reason is None:
            entry[what] += 1
        else:
            entry["failed"][reason] = entry["failed"].get(reason, 0) + 1


def failed(kind, error):
    where = traceback.extract_tb(error.__traceback__)
    line = next((f"line {at.lineno}" for at in reversed(where) if at.filename == __file__), "")
    count(kind, "failed", f"{time.strftime('%T')} {type(error).__name__}: {error} {line}"[:300])


class Site:
    def __init__(self, port, authority_file):
        self.port, self.authority_file = port, authority_file
        self.context = ssl.create_default_context(cafile=authority_file)

    def http1(self):
        return http.client.HTTPSConnection("localhost", self.port, context=self.context, timeout=DEADLINE)


class Http1:
    """A client that keeps its connection."""

    def __init__(self, site, kind):
        self.site, self.kind, self.connection = site, kind, None

    def exchange(self, method, path, body=None):
        for attempt in (1, 2):
            reused = self.connection is not None
            if not reused:
                self.connection = self.site.http1()
                self.connection.connect()
                count(self.kind, "connections")
            try:
                self.connection.request(method, path, body)
                response = self.connection.getresponse()
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
                if method == "GET" and reused and attempt == 1:
                    count(self.kind, "raced")
                    continue
                raise
            break
        data = response.read()
        assert response.status == 200, f"{response.status} {data[:80]!r}"
        if response.will_close:
            self.close()
        return response, data

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def http1(site, kind):
    client = Http1(site, kind)
    for number in itertools.count():
        if stop.is_set():
            return client.close()
        try:
            if number % 4 == 3:
                body = b"%d" % number * 400
                _, data = client.exchange("POST", "/upload", body)
                assert json.loads(data)["sha256"] == hashlib.sha256(body).hexdigest(), "checksum"
            else:
                response, data = client.exchange("GET", "/bytes/3000")
                assert response.headers["X-Sha256"] == hashlib.sha256(data).hexdigest(), "checksum"
            count(kind, "ok")
        except Exception as error:
            failed(kind, error)
            client.close()
        time.sleep(0.01)


def download(site, kind):
    client = Http1(site, kind)
    while not stop.is_set():
        try:
            response, data = client.exchange("GET", f"/bytes/{LARGE}")
            assert len(data) == LARGE, len(data)
            assert response.headers["X-Sha256"] == hashlib.sha256(data).hexdigest(), "checksum"
            count(kind, "ok")
        except Exception as error:
            failed(kind, error)
            client.close()
        time.sleep(0.2)
    client.close()


def upload(site, kind):
    body = bytes(range(250)) * (LARGE // 250)
    wanted = hashlib.sha256(body).hexdigest()
    while not stop.is_set():
        # A connection of its own each: an upload on a reused one could not be sent twice.
        client = Http1(site, kind)
        try:
            _, data = client.exchange("POST", "/upload", body)
            assert json.loads(data)["sha256"] == wanted, "checksum"
            count(kind, "ok")
        except Exception as error:
            failed(kind, error)
        client.close()
        time.sleep(0.2)


def http2(site, kind):
    connection = None
    while not stop.is_set():
        try:
            if connection is None:
                connection = http2_client.Connection(site.port, site.authority_file)
                count(kind, "connections")
            connection = four_streams(connection, kind)
        except Exception as error:
            failed(kind, error)
            connection = None
        time.sleep(0.02)


def four_streams(connection, kind):
    """Four at once; returns the connection, or None when it must not be used again."""
    try:
        streams = {connection.request("/bytes/20000") for _ in range(4)}
    except (ConnectionError, ssl.SSLError):
        if not connection.went_away:
            # Nothing was answered on streams just sent, as with an idle HTTP/1.1 connection.
            count(kind, "raced")
            return None
        raise

    def refused():
        """Streams above the last one of a GOAWAY were not processed (RFC 9113, 6.8)."""
        last = min((last for _, last in connection.went_away), default=2**31)
        return {stream for stream in streams if stream > last}

    connection.until("four streams", lambda: connection.ended | set(connection.reset) | refused() >= streams)
    again = 0
    for stream in streams:
        if stream in refused() or connection.reset.get(stream) == 7:
            again += 1
            continue
        assert stream not in connection.reset, f"reset {connection.reset}"
        assert connection.status[stream] == "200", connection.status[stream]
        assert connection.body.pop(stream) == PIECE, "bytes"
        count(kind, "ok")
    if again:
        count(kind, "raced")
    if connection.went_away:
        codes = {code for code, _ in connection.went_away}
        assert codes == {0}, f"GOAWAY {connection.went_away}"
        return None
    # Between requests a library reads what came meanwhile; a GOAWAY among it ends the use.
    read_what_came(connection)
    return None if connection.went_away or connection.closed else connection


def read_what_came(connection):
    connection.socket.settimeout(0.001)
    try:
        connection.turn()
    except TimeoutError:
        pass
    finally:
        connection.socket.settimeout(http2_client.DEADLINE)


PIECE = b"".join(number.to_bytes(4, "big") for number in range(5000))


def rpc(site, kind):
    """Streams of about two seconds, and single calls between them; the library keeps the connection."""
    with grpc_client.channel(site.port, site.authority_file) as channel:
        while not stop.is_set():
            try:
                one_stream(channel)
                count(kind, "ok")
                message = b"m" * 2000
                assert channel.unary_unary("/test.Service/Unary")(message, timeout=DEADLINE) == message
                count(kind, "ok")
            except Exception as error:
                reason = f"{error.code()} {error.details()}" if isinstance(error, grpc.RpcError) else error
                failed(kind, AssertionError(reason).with_traceback(error.__traceback__))


def one_stream(channel):
    def requests():
        for number in range(40):
            time.sleep(0.05)
            yield b"%d" % number * 500

    answers = list(channel.stream_stream("/test.Service/Bidi")(requests(), timeout=DEADLINE))
    wanted = [hashlib.sha256(b"%d" % n * 500).hexdigest().encode() for n in range(40)]
    assert answers == wanted, f"{len(answers)} of 40 answers"


def websocket(site, kind):
    """A tunnel of about four seconds, every message compared."""
    while not stop.is_set():
        try:
            with websockets.sync.client.connect(
                f"wss://localhost:{site.port}/ws/echo",
                ssl=site.context,
                compression=None,
                ping_interval=None,
            ) as connection:
                count(kind, "connections")
                for number in range(80):
                    if stop.is_set():
                        break
                    message = b"%d" % number * 3000
                    connection.send(message)
                    back = connection.recv(timeout=DEADLINE)
                    assert hashlib.sha256(back).digest() == hashlib.sha256(message).digest(), "checksum"
                    count(kind, "ok")
                    time.sleep(0.05)
            assert connection.protocol.close_code == 1000, connection.protocol.close_code
        except Exception as error:
            failed(kind, error)
            time.sleep(0.1)


WORKERS = {"http1": (http1, 3), "http2": (http2, 2), "rpc": (rpc, 2), "websocket": (websocket, 2),
           "download": (download, 1), "upload": (upload, 1)}


def say(ended):
    with lock:
        print(json.dumps({**account, "ended": ended}), flush=True)


def main(port, authority_file, *kinds):
    site = Site(port, authority_file)
    threads = []
    for kind in kinds or WORKERS:
        worker, copies = WORKERS[kind]
        for _ in range(copies):
            threads.append(threading.Thread(target=worker, args=(site, kind), daemon=True))
    for thread in threads:
        thread.start()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    while not stop.wait(0.25):
        say(False)
    deadline = time.monotonic() + DEADLINE
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
        if thread.is_alive():
            count("ending", "failed", "a client did not end")
    say(True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
