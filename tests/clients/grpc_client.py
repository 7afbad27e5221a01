"""Every kind of gRPC call through edge, over raw bytes.

    grpc_client.py PORT CA
    grpc_client.py tunnel PORT

`tunnel`, in clear, says `ready`, then sends one message of one call for each line of its input and says `ok` for each answer;
ends with its input.
"""

import hashlib
import sys
import time

import grpc

DEADLINE = 30


def channel(port, authority_file):
    with open(authority_file, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [
        ("grpc.ssl_target_name_override", "localhost"),
        ("grpc.max_receive_message_length", 2**25),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)


def unary(to):
    call = to.unary_unary("/test.Service/Unary")
    for size in (0, 1, 20_000, 3_000_000):
        message = b"u" * size
        assert call(message, timeout=DEADLINE) == message, f"unary of {size} bytes"


def server_stream(to):
    answers = list(to.unary_stream("/test.Service/ServerStream")(b"500", timeout=DEADLINE))
    assert answers == [b"%d" % number for number in range(500)], len(answers)


def client_stream(to):
    parts = [b"%d" % number * 300 for number in range(200)]
    answer = to.stream_unary("/test.Service/ClientStream")(iter(parts), timeout=DEADLINE)
    assert answer == f"200 {hashlib.sha256(b''.join(parts)).hexdigest()}".encode(), answer


def bidi(to):
    """Each request is sent only once the answer to the one before is there."""
    answers = []

    def requests():
        for number in range(50):
            deadline = time.monotonic() + DEADLINE
            while len(answers) < number:
                assert time.monotonic() < deadline, f"no answer to request {number - 1}"
                time.sleep(0.001)
            yield b"%d" % number * 1000

    call = to.stream_stream("/test.Service/Bidi")(requests(), timeout=DEADLINE)
    assert ("x-first", "yes") in call.initial_metadata(), call.initial_metadata()
    for answer in call:
        answers.append(answer)
    wanted = [hashlib.sha256(b"%d" % n * 1000).hexdigest().encode() for n in range(50)]
    assert answers == wanted, len(answers)


def fails(to):
    try:
        to.unary_unary("/test.Service/Fails")(b"reason", timeout=DEADLINE)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "not now: reason", error.details()
        assert ("x-detail", "from the server") in error.trailing_metadata(), error.trailing_metadata()
    else:
        raise AssertionError("the failing call succeeded")


def unknown(to):
    try:
        to.unary_unary("/test.Service/Nothing")(b"", timeout=DEADLINE)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error
    else:
        raise AssertionError("the unknown call succeeded")


def ended_by_the_client(to):
    """A deadline and a cancellation both reach the server."""
    slow = to.unary_unary("/test.Service/Slow")
    try:
        slow(b"", timeout=0.5)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    else:
        raise AssertionError("no deadline")
    call = slow.future(b"", timeout=DEADLINE)
    begun = to.unary_unary("/test.Service/Begun")
    deadline = time.monotonic() + 10
    while (seen := int(begun(b"", timeout=DEADLINE))) < 2:
        assert time.monotonic() < deadline, f"the server saw {seen} of 2 calls begin"
        time.sleep(0.05)
    call.cancel()
    count = to.unary_unary("/test.Service/Cancelled")
    deadline = time.monotonic() + 10
    while (seen := int(count(b"", timeout=DEADLINE))) < 2:
        assert time.monotonic() < deadline, f"the server saw {seen} of 2 calls end early"
        time.sleep(0.05)


def tunnel(port):
    """One stream for the whole talk; a connection that is lost fails it."""
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options) as to:
        lines = []

        def requests():
            for line in sys.stdin:
                lines.append(line.encode())
                yield lines[-1]

        call = to.stream_stream("/test.Service/Bidi")(requests(), timeout=600)
        print("ready", flush=True)
        for number, answer in enumerate(call):
            assert answer == hashlib.sha256(lines[number]).hexdigest().encode(), number
            print(f"ok {number}", flush=True)
        assert call.code() is grpc.StatusCode.OK, call.details()
    print(f"{len(lines)} messages on one stream")


CASES = (unary, server_stream, client_stream, bidi, fails, unknown, ended_by_the_client)

if __name__ == "__main__":
    if sys.argv[1] == "tunnel":
        tunnel(int(sys.argv[2]))
        sys.exit(0)
    with channel(int(sys.argv[1]), sys.argv[2]) as opened:
        failed = []
        for case in CASES:
            try:
                case(opened)
            except Exception as error:  # every case is tried, and each failure named
                failed.append(f"{case.__name__}: {error!r}")
        assert not failed, "\n".join(failed)
    print(f"{len(CASES)} kinds of calls")
