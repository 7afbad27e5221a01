"""WebSocket through edge: messages of many sizes both ways, the close handshake, a refusal.

    websocket_client.py echo|refused|tunnel PORT CA|-

With `-` in the place of an authority's file it is a WebSocket in clear.

`tunnel` says `ready`, then echoes one message for each line of its input and `ok` for each; ends with its input.
"""

import asyncio
import hashlib
import ssl
import sys

import websockets
from websockets.asyncio.client import connect


def open_to(port, authority_file, path):
    in_clear = authority_file == "-"
    context = None if in_clear else ssl.create_default_context(cafile=authority_file)
    return connect(
        f"{'ws' if in_clear else 'wss'}://localhost:{port}{path}",
        ssl=context,
        host="127.0.0.1",
        max_size=2**23,
        ping_interval=None,
        compression=None,
    )


async def echo(port, authority_file):
    total = 0
    async with open_to(port, authority_file, "/ws/echo") as connection:
        for number, size in enumerate((0, 1, 125, 126, 65_535, 65_536, 1_000_000, 4_000_000)):
            message = bytes([number]) * size
            await connection.send(message)
            back = await asyncio.wait_for(connection.recv(), 30)
            assert hashlib.sha256(back).digest() == hashlib.sha256(message).digest(), f"message of {size}"
            total += size
        await connection.send("text")
        assert await asyncio.wait_for(connection.recv(), 30) == "text"
        await asyncio.wait_for(await connection.ping(), 30)
    assert connection.close_code == 1000, connection.close_code
    return f"{total} bytes both ways, close {connection.close_code}"


async def refused(port, authority_file):
    try:
        async with open_to(port, authority_file, "/ws/refused"):
            raise AssertionError("the refused WebSocket opened")
    except websockets.exceptions.InvalidStatus as error:
        response = error.response
        assert response.status_code == 403, response
        assert response.body == b"no WebSocket here\n", response.body
        return "403 with its body"


async def tunnel(port, authority_file):
    loop = asyncio.get_running_loop()
    async with open_to(port, authority_file, "/ws/echo") as connection:
        print("ready", flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await connection.send(line)
            assert await asyncio.wait_for(connection.recv(), 30) == line
            print("ok", flush=True)
    return f"close {connection.close_code}"


CASES = {case.__name__: case for case in (echo, refused, tunnel)}

if __name__ == "__main__":
    print(asyncio.run(CASES[sys.argv[1]](int(sys.argv[2]), sys.argv[3])))
