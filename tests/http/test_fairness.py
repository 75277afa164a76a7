"""No single request keeps the others waiting: each is bounded in what it can ask for, or done bit by bit."""

import asyncio
import json
import re
import struct
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest

from mockserver.http.uploads import MAX_NAME
from mockserver.json_text import MAX_VALUES
from mockserver.server.app import App
from tests.helpers.documents import KONTEXT, ULTRA
from tests.helpers.wires import Wire, connect, new_app

pytestmark = pytest.mark.slow  # it measures the processor's time

LIMIT = 0.1  # seconds of the processor's time that others may be kept waiting
PIECE = 64 * 1024  # bytes that arrive at a time
MEGABYTE = 1024 * 1024
FILES = "/replicate/v1/files"
NEIGHBOUR = b"GET /replicate/v1/predictions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a-neighbour\r\n\r\n"


def http(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Authorization: Bearer the-culprit"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "", ""]).encode() + body


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - each turn of the loop counts
        await asyncio.sleep(0)


async def ask(app: App, data: bytes) -> bytes:
    """Send a request, as fast as the double reads it; the beginning of its response, once that has come whole."""
    connection, wire = connect(app)
    for start in range(0, len(data), PIECE):
        await until(lambda: wire.reading or wire.closed)
        if not wire.closed:
            connection.data_received(data[start : start + PIECE])
        await asyncio.sleep(0)
    await until(lambda: is_whole(wire))
    connection.connection_lost(None)
    return wire.pieces[0]


def is_whole(wire: Wire) -> bool:
    head, end, _ = wire.pieces[0].partition(b"\r\n\r\n") if wire.pieces else (b"", b"", b"")
    announced = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and sum(map(len, wire.pieces)) - len(head + end) >= (
        int(announced[1]) if announced else 0
    )


async def longest_wait(app: App, data: bytes) -> tuple[float, bytes]:
    """The longest that a neighbour waited for an answer while a request was answered, and that request's response.

    The wait is in seconds of the processor's time, of all threads: what other processes on this machine do is not in it.
    """
    asking = asyncio.ensure_future(ask(app, data))
    longest = 0.0
    while not asking.done():
        began = time.process_time()
        await ask(app, NEIGHBOUR)
        longest = max(longest, time.process_time() - began)
    return longest, asking.result()


def assert_fair(data: bytes, *before: bytes) -> bytes:
    """Make sure that nobody has to wait, in the best of three tries: the processor's time is not quite even.

    The culprit has sent some requests `before`.
    """

    async def once() -> tuple[float, bytes]:
        app = new_app()
        for earlier in (NEIGHBOUR, *before):
            await ask(app, earlier)
        return await longest_wait(app, data)

    waits = []
    for _ in range(3):
        wait, response = asyncio.run(once())
        waits.append(wait)
        if wait < LIMIT:
            return response
    raise AssertionError(f"others waited for {min(waits):.2f} s")


def picture(kind: str, data: bytes) -> bytes:
    uri = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return json.dumps({"input": {"prompt": "a", "input_image": uri}}).encode()


def chunk(data: bytes) -> bytes:
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


PNG = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR" + struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0))


def lists(of: bytes = b"[]") -> bytes:
    return b"[" + (of + b",") * (5 * MEGABYTE) + of + b"]"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (KONTEXT, lambda: picture("jpeg", b"\xff\xd8" + b"\xff" * 8 * MEGABYTE), 422),
        (KONTEXT, lambda: picture("jpeg", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 2 * MEGABYTE), 422),
        (KONTEXT, lambda: picture("png", PNG + chunk(b"teXt") * 500_000), 200),
        (
            KONTEXT,
            lambda: picture(
                "gif", b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + b"!\xfe\x01a\x00" * MEGABYTE
            ),
            200,
        ),
        (ULTRA, lambda: b'{"input": {"prompt": "a", "x": %b}}' % lists(), 400),
        (ULTRA, lambda: b'{"input": {"prompt": "a", "x": %b}}' % lists(b'""'), 400),
        (ULTRA, lambda: b'{"input": {"prompt": "%b"}}' % (b"a, b" * MEGABYTE), 200),
        (ULTRA, lambda: b'{"input": {"prompt": "%b"}}' % (b'\\"' * 2 * MEGABYTE), 200),
        (ULTRA, lambda: b'{"input": {"prompt": "%b"}}' % ("é".encode() * 2 * MEGABYTE), 200),
        (
            ULTRA,
            lambda: (
                b'{"input": {"prompt": "a", "x": [%b]}}' % b",".join([b"1"] * (MAX_VALUES - 10))
            ),
            422,
        ),
        (ULTRA, lambda: b'{"input": {"prompt": "a", "seed": %b}}' % (b"9" * 15 * MEGABYTE), 400),
        (ULTRA, lambda: b'{"input": {"prompt": "a", "%b": 1}}' % (b"k" * 8 * MEGABYTE), 200),
    ],
    ids=[
        "a jpeg of fill bytes",
        "a jpeg of segments",
        "a png of chunks",
        "a gif of comments",
        "lists",
        "texts",
        "a long prompt with commas",
        "a long prompt of quotes",
        "a long prompt of two bytes each",
        "as many values as there may be",
        "a long number",
        "a long name",
    ],
)
def test_bodies_that_are_hard_to_read(path: str, body: Callable[[], bytes], status: int) -> None:
    response = assert_fair(http("POST", path, body()))
    assert response.startswith(b"HTTP/1.1 %d " % status)


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(
        b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (h.encode(), c)
        for h, c in parts
    ) + (b"--b--\r\n")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (lambda: form(('name="content"; filename="a"', b"\r\n--" * 5 * MEGABYTE)), 201),
        (
            lambda: form(
                ('name="content"; filename="a"', b"a"),
                ('name="metadata"; filename="m"', b'{"a": %b}' % lists()),
            ),
            422,
        ),
    ],
    ids=["what looks like boundaries", "nested metadata"],
)
def test_uploads_that_are_hard_to_read(body: Callable[[], bytes], status: int) -> None:
    response = assert_fair(http("POST", FILES, body(), "multipart/form-data; boundary=b"))
    assert response.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("size", [64, 60_000])
def test_a_content_type_that_is_hard_to_read(size: int) -> None:
    kind = 'multipart/form-data; boundary=b; x="' + ";" * size
    response = assert_fair(http("POST", FILES, form(('name="content"; filename="a"', b"a")), kind))
    assert response.startswith(b"HTTP/1.1 %d " % (201 if size < MAX_NAME else 400))


def many(number: int) -> Iterator[bytes]:
    """Requests for paths that the contract does not have, no two alike."""
    return (http("GET", f"/replicate/v1/{place:06d}{'x/y' * 90}") for place in range(number))


UPLOAD = http(
    "POST",
    FILES,
    form(
        ('name="content"; filename="a"', b"a"),
        ('name="metadata"', b'{"a": [%b1]}' % (b"1," * 3000)),
    ),
    "multipart/form-data; boundary=b",
)
UNKNOWN = http(
    "POST",
    ULTRA,
    json.dumps({"input": {"prompt": "a", **{f"k{n}": 1 for n in range(100)}}}).encode(),
)
CREATE = http("POST", ULTRA, b'{"input": {"prompt": "a"}}')
LARGE = http("POST", ULTRA, b'{"input": {"prompt": "%b"}}' % (b"a" * 4 * MEGABYTE))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("before", "requested"),
    [
        ([*many(1000)], http("GET", "/__admin/verdict")),
        pytest.param(
            [*many(1000)], http("GET", "/__admin/requests?limit=1000"), marks=pytest.mark.thorough
        ),
        ([UNKNOWN] * 100, http("GET", "/__admin/verdict")),
        pytest.param(
            [UNKNOWN] * 100, http("GET", "/__admin/requests?limit=1000"), marks=pytest.mark.thorough
        ),
        ([CREATE] * 5000, http("GET", "/__admin/predictions")),
        ([CREATE] * 5000, http("POST", "/__admin/clock/advance", b'{"seconds": 10}')),
        ([UPLOAD] * 1000, http("GET", FILES)),
        ([LARGE] * 4, http("GET", "/replicate/v1/predictions")),
        ([LARGE] * 4, http("GET", "/__admin/predictions")),
    ],
    ids=[
        "a verdict over unmatched requests",
        "a journal of unmatched requests",
        "a verdict over violations",
        "a journal of violations",
        "many predictions",
        "time that passes for many predictions",
        "many files",
        "long prompts in a list",
        "long prompts in the admin API",
    ],
)
def test_responses_that_are_long(before: list[bytes], requested: bytes) -> None:
    assert assert_fair(requested, *before).startswith(b"HTTP/1.1 200 ")
