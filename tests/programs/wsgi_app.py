"""A WSGI application for gunicorn: GET /bytes/N?offset=O, /slow/MS, /version, /health."""

import os
import time
from urllib.parse import parse_qs

VERSION = os.environ.get("APP_VERSION", "0").encode()
# Work per request, in seconds: so that requests are under way whenever it is told to end.
WORK = 0.005
# The pattern of bench/src/payload.rs: 65521 bytes of SplitMix64, repeated.
PERIOD = 65_521
MASK = (1 << 64) - 1


def mix(number):
    z = number * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


PATTERN = b"".join(mix(word).to_bytes(8, "little") for word in range(1, PERIOD // 8 + 2))[:PERIOD]


def part(offset, length):
    offset %= PERIOD
    return (PATTERN * (length // PERIOD + 2))[offset : offset + length]


def app(environ, start_response):
    _, word, *more = environ["PATH_INFO"].split("/")
    if word == "bytes":
        time.sleep(WORK)
        query = parse_qs(environ["QUERY_STRING"])
        body = part(int(query.get("offset", ["0"])[0]), int(more[0]))
    else:
        if word == "slow":
            time.sleep(int(more[0]) / 1000)
        body = VERSION
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
