"""What stands behind edge in the scenarios: HTTP/1.1, WebSocket and gRPC, each on a free port of 127.0.0.1.

The first line on standard output is {"http": PORT, "websocket": PORT, "grpc": PORT}; a later line is a report
that a page posted to /report. Ends with its standard input, so that it never outlives its test.
"""

import asyncio
import hashlib
import http.server
import json
import sys
import threading
import time
from concurrent import futures

import grpc
import websockets.asyncio.server as websocket_server

PAGE = """<!doctype html><title>page</title><p>waiting
<script>
const protocol = performance.getEntriesByType('navigation')[0].nextHopProtocol;
const report = (echo) => fetch('/report', {method: 'POST', body: JSON.stringify({protocol, echo})})
  .then(() => { document.title = 'done ' + protocol + ' ' + echo; });
const socket = new WebSocket('wss://' + location.host + '/ws/echo');
socket.onopen = () => socket.send('from the page');
socket.onmessage = (event) => { report(event.data); socket.close(); };
socket.onerror = () => report('the WebSocket failed');
</script>
"""

say_lock = threading.Lock()


def say(value):
    with say_lock:
        print(json.dumps(value), flush=True)


def pattern(length):
    """The bytes of /bytes/LENGTH: every position differs from its neighbours, so that a gap shows."""
    block = b"".join(number.to_bytes(4, "big") for number in range(16384))
    return (block * (length // len(block) + 1))[:length]


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def answer(self, status, body, content_type="application/octet-stream", more=()):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/bytes/"):
            body = pattern(int(path.rpartition("/")[2]))
            self.answer(200, body, more=[("X-Sha256", hashlib.sha256(body).hexdigest())])
        elif path.startswith("/slow/"):
            # Ten chunks over so many milliseconds.
            self.chunked([b"part"] * 10, int(path.rpartition("/")[2]) / 10_000)
        elif path == "/trailers":
            self.chunked([b"one", b"two"], 0, [("X-Checksum", "onetwo")])
        elif path == "/hints":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
            self.answer(200, b"hinted")
        elif path == "/page":
            self.answer(200, PAGE.encode(), "text/html; charset=utf-8")
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = {"method": self.command, "path": self.path, "headers": headers}
            self.answer(200, json.dumps(seen).encode(), "application/json")

    do_HEAD = do_GET
    do_DELETE = do_GET

    def chunked(self, parts, pause, trailers=()):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        if trailers:
            self.send_header("Trailer", ", ".join(name for name, _ in trailers))
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(pause)
        self.wfile.write(b"0\r\n")
        for name, value in trailers:
            self.wfile.write(f"{name}: {value}\r\n".encode())
        self.wfile.write(b"\r\n")

    def body(self):
        """Yields the request's body as it comes; trailers are left in self.trailers."""
        self.trailers = {}
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.exactly(size)
                assert self.rfile.readline() == b"\r\n", "a chunk ends"
            while (line := self.rfile.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                self.trailers[name.lower()] = value.strip()
        else:
            left = int(self.headers.get("Content-Length", "0"))
            while left:
                part = self.exactly(min(left, 65536))
                left -= len(part)
                yield part

    def exactly(self, size):
        part = self.rfile.read(size)
        if len(part) != size:
            self.close_connection = True
            raise ConnectionError("the body ended early")
        return part

    def do_POST(self):
        digest, length, kept = hashlib.sha256(), 0, b""
        try:
            for part in self.body():
                digest.update(part)
                length += len(part)
                kept = kept + part if len(kept) < 4096 else kept
        except ConnectionError:
            return
        if self.path == "/report":
            say(json.loads(kept))
        account = {
            "length": length,
            "sha256": digest.hexdigest(),
            "trailers": self.trailers,
            "chunked": self.headers.get("Transfer-Encoding"),
        }
        self.answer(200, json.dumps(account).encode(), "application/json")

    do_PUT = do_POST


class HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """A client that went away is no news."""


def serve_http():
    server = HttpServer(("127.0.0.1", 0), Http)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def refuse(connection, request):
    if request.path == "/ws/refused":
        return connection.respond(403, "no WebSocket here\n")
    return None


async def echo(connection):
    async for message in connection:
        await connection.send(message)


def serve_websocket():
    port = futures.Future()

    async def run():
        async with websocket_server.serve(
            echo, "127.0.0.1", 0, process_request=refuse, max_size=2**23, ping_interval=None
        ) as server:
            port.set_result(server.sockets[0].getsockname()[1])
            await asyncio.Future()

    threading.Thread(target=lambda: asyncio.run(run()), daemon=True).start()
    return port.result(10)


class Rpc(grpc.GenericRpcHandler):
    """Calls over raw bytes: no generated code is needed to try every kind of stream."""

    def service(self, details):
        name = details.method.rpartition("/")[2]
        return {
            "Unary": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
            "ServerStream": grpc.unary_stream_rpc_method_handler(self.server_stream),
            "ClientStream": grpc.stream_unary_rpc_method_handler(self.client_stream),
            "Bidi": grpc.stream_stream_rpc_method_handler(self.bidi),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
            "Slow": grpc.unary_unary_rpc_method_handler(self.slow),
            "Begun": grpc.unary_unary_rpc_method_handler(self.begun_calls),
            "Cancelled": grpc.unary_unary_rpc_method_handler(self.cancelled_calls),
        }.get(name)

    def __init__(self):
        self.begun = self.cancelled = 0

    @staticmethod
    def server_stream(request, _):
        for number in range(int(request)):
            yield b"%d" % number

    @staticmethod
    def client_stream(requests, _):
        digest, count = hashlib.sha256(), 0
        for request in requests:
            digest.update(request)
            count += 1
        return f"{count} {digest.hexdigest()}".encode()

    @staticmethod
    def bidi(requests, context):
        context.send_initial_metadata((("x-first", "yes"),))
        for request in requests:
            yield hashlib.sha256(request).hexdigest().encode()

    @staticmethod
    def fails(request, context):
        context.set_trailing_metadata((("x-detail", "from the server"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: " + request.decode())

    def slow(self, request, context):
        ended = threading.Event()
        context.add_callback(ended.set)
        self.begun += 1
        if ended.wait(20):
            self.cancelled += 1
        return request

    def begun_calls(self, _request, _context):
        return b"%d" % self.begun

    def cancelled_calls(self, _request, _context):
        return b"%d" % self.cancelled


def serve_grpc():
    server = grpc.server(
        futures.ThreadPoolExecutor(64),
        handlers=[Rpc()],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2**25)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


if __name__ == "__main__":
    rpc, rpc_port = serve_grpc()
    say({"http": serve_http(), "websocket": serve_websocket(), "grpc": rpc_port})
    sys.stdin.read()
    rpc.stop(None)
