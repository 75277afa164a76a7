"""A fuzzer of the double: odd HTTP, whole and in pieces, hostile bodies, and resets, evictions and clocks in the middle.

    python -m tests.fuzz --seconds 600 [--seed N]

It runs in this process, without a network, so that a seed repeats what it did (but for the wall clock's part). What may
never happen: an exception, a 500, a neighbour who gets no answer, something held or under way once everybody has left.
"""

import argparse
import asyncio
import json
import logging
import random
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mockserver.backend.store import Bounds, Store
from mockserver.clock import MODES, SECOND, Clock
from mockserver.http.connection import HttpConnection
from mockserver.server.app import App
from tests.helpers.documents import CONTRACT
from tests.helpers.wires import CATALOGUE, Wire, connect, new_app, settled

BOUNDS = Bounds(
    tenants=6,
    predictions_per_tenant=6,
    files_per_tenant=3,
    bytes_per_tenant=400_000,
    bytes=2_000_000,
)
TOKENS = ["", "ann", "bob", "cid+nsfw", "dan+flaky", "r8_somebody", "tökén", "x" * 300]
PATIENCE = 5000  # turns of the loop in which a neighbour has to be answered
OPEN = 12  # connections at a time


class Failure(AssertionError):
    """Something happened that may never happen."""


class Fuzzer:
    """A double, those who talk to it, and the dice."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.app: App = new_app(clock="autojump")
        backend = self.app.backend
        backend.store = Store(seed, lambda: Clock("autojump"), BOUNDS)
        backend.posting = asyncio.Semaphore(4)
        self.open: list[tuple[HttpConnection, Wire]] = []
        self.ids: list[str] = ["0" * 26, "nothing"]
        self.steps = 0

    async def step(self) -> None:
        """Do one odd thing, and see that the double is well."""
        self.steps += 1
        act = self.dice.choice(
            [self.talk] * 12
            + [self.hang_up, self.steer, self.steer, self.forget, self.change_clock]
        )
        await act()
        for _ in range(self.dice.randrange(4)):
            await asyncio.sleep(0)
        if self.steps % 5 == 0:
            await self.look_at_neighbour()

    async def talk(self) -> None:
        """Send something on a new connection or an old one, whole or in pieces."""
        dice = self.dice
        if len(self.open) < OPEN and (not self.open or dice.random() < 0.6):
            self.open.append(connect(self.app))
        connection, wire = dice.choice(self.open)
        data = b"".join(self.request() for _ in range(dice.choice([1, 1, 1, 2, 5])))
        if dice.random() < 0.1:
            data = data[: dice.randrange(len(data) + 1)]
        if dice.random() < 0.1:
            place = dice.randrange(len(data) + 1)
            data = data[:place] + dice.randbytes(dice.randrange(1, 20)) + data[place:]
        size = max(1, len(data)) if dice.random() < 0.5 else dice.choice([1, 7, 50, 1000])
        for start in range(0, min(len(data), 300 * size), size):
            if not wire.closed:
                connection.data_received(data[start : start + size])
            if dice.random() < 0.2:
                await asyncio.sleep(0)
        if dice.random() < 0.1:
            connection.pause_writing()
        elif dice.random() < 0.5:
            connection.resume_writing()

    def request(self) -> bytes:
        """A request, more or less."""
        dice = self.dice
        operation = dice.choice(CONTRACT.operations)
        names = {
            "prediction_id": dice.choice(self.ids),
            "file_id": dice.choice(self.ids),
            "output_format": dice.choice(["jpg", "png", "x"]),
        }
        path = re.sub(
            r"{(\w+)}",
            lambda match: names.get(match[1], dice.choice(["black-forest-labs", "x", "%00"])),
            operation.path,
        )
        method = (
            operation.method
            if dice.random() < 0.9
            else dice.choice(["GET", "BREW", "OPTIONS", "HEAD", "TRACE"])
        )
        if dice.random() < 0.15:
            path = dice.choice(
                [
                    "*",
                    "/",
                    "//",
                    "/__admin/verdict",
                    "/__admin/requests",
                    "/__admin/predictions",
                    "/__admin/tenants",
                    "/__admin/webhooks",
                    "/openapi.json",
                    "http://x/y",
                    "/%",
                    "/" + "a/" * 200,
                    "/\u00e9",
                    "/?" + "a&" * 500,
                ]
            )
        body, kind = self.body(operation.role)
        lines = [f"{method} {path} HTTP/{dice.choice(['1.1'] * 9 + ['1.0', '9.9'])}"]
        lines += ["Host: 127.0.0.1"] * dice.choice([1] * 12 + [0, 2])
        if token := dice.choice(TOKENS):
            lines.append(f"Authorization: {dice.choice(['Bearer'] * 8 + ['Token', ''])} {token}")
        lines += dice.sample(ODD_HEADERS, dice.choice([0, 0, 0, 1, 2]))
        chunked = dice.random() < 0.15
        if chunked:
            trailer = dice.choice([b"", b"X-Mock-Scenario: failed\r\n", b"a" * 100])
            body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailer) if body else b"0\r\n\r\n"
            lines.append("Transfer-Encoding: chunked")
        if body and (not chunked or dice.random() < 0.05):
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"Content-Type: {kind}"] if kind else []
        return "\r\n".join([*lines, "", ""]).encode() + body

    def body(self, role: str | None) -> tuple[bytes, str]:
        dice = self.dice
        if role == "upload":
            content = dice.randbytes(dice.choice([0, 10, 5000]))
            form = (
                b'--b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n%b\r\n--b--\r\n'
                % content
            )
            return form[
                : len(form) if dice.random() < 0.8 else dice.randrange(len(form))
            ], "multipart/form-data; boundary=b"
        if role != "create" and dice.random() < 0.9:
            return b"", ""
        options: dict[str, object] = {
            "prompt": dice.choice(
                ["a", "[mock:failed]", "[mock:", "p" * 3000, "\u2028\U0001f600", ""]
            )
        }
        options |= {
            name: dice.choice(ODD_VALUES)
            for name in dice.sample(ODD_NAMES, dice.choice([0, 0, 1, 2]))
        }
        whole: dict[str, object] = {"input": options}
        if dice.random() < 0.2:
            whole["webhook"] = dice.choice(
                ["http://example.com/hook", "http://127.0.0.1:9/", "x", ""]
            )
        text = json.dumps(whole, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        if dice.random() < 0.1:
            text = dice.choice(
                [
                    b"",
                    b"{",
                    b"[" * 300,
                    b'"\\ud800"',
                    b"\xff",
                    b"null",
                    b"1" * 400,
                    text[: len(text) // 2],
                ]
            )
        return text, dice.choice(
            ["application/json"] * 9 + ["text/plain", "application/json; charset=utf-8"]
        )

    async def steer(self) -> None:
        """Set a scenario, let time pass, or ask for something."""
        dice = self.dice
        store = self.app.backend.store
        tenant = store.tenant(dice.choice(TOKENS) or "anonymous")
        if dice.random() < 0.5:
            names = [scenario.name for scenario in CATALOGUE]
            faults = dice.choices(FAULTS, k=dice.randrange(4))
            value: object = dice.choice(
                [dice.choice(names), {"faults": {"*": faults}} if faults else "stuck"]
            )
            store.set_scenario(tenant, CATALOGUE.coerce(value))
        else:
            work = self.app.backend.advance(tenant, dice.choice([0, 1, SECOND, 4 * SECOND, 10**13]))
            await asyncio.wait_for(work, 20)
        self.ids = [
            "0" * 26,
            "nothing",
            *(item for tenant in store.tenants() for item in [*tenant.predictions, *tenant.files]),
        ]

    async def change_clock(self) -> None:
        tenant = self.app.backend.store.tenant(self.dice.choice(TOKENS) or "anonymous")
        tenant.set_clock(self.dice.choice(MODES), speed=self.dice.choice([0.5, 1, 1e6]))

    async def forget(self) -> None:
        """Reset a tenant, or have it crowded out."""
        store, name = self.app.backend.store, self.dice.choice(TOKENS) or "anonymous"
        if self.dice.random() < 0.5:
            store.reset(name)
        else:
            for number in range(self.dice.randrange(BOUNDS.tenants + 1)):
                store.tenant(f"passer-by-{number}")

    async def hang_up(self) -> None:
        if self.open:
            connection, _ = self.open.pop(self.dice.randrange(len(self.open)))
            connection.connection_lost(self.dice.choice([None, ConnectionResetError()]))

    async def look_at_neighbour(self) -> None:
        connection, wire = connect(self.app)
        connection.data_received(b"GET /__admin/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for _ in range(PATIENCE):
            if wire.pieces:
                break
            await asyncio.sleep(0)
        if not wire.sent.startswith(b"HTTP/1.1 200 "):
            raise Failure(f"a neighbour was answered {wire.sent[:100]!r}")
        connection.connection_lost(None)
        for _, item in self.open:
            if b"HTTP/1.1 500 " in item.sent:
                raise Failure(f"answered 500: {item.sent[-2000:]!r}")
            item.pieces.clear()

    async def end(self) -> None:
        """Have everybody leave, and see that nothing is left."""
        while self.open:
            await self.hang_up()
        store = self.app.backend.store
        for tenant in store.tenants():
            store.forget(tenant.name)
        for _ in range(200):  # threads that post, or draw, come to their end
            await settled()
            if len(asyncio.all_tasks()) == 1:
                break
            await asyncio.sleep(0.05)
        if len(asyncio.all_tasks()) > 1:
            raise Failure(f"still under way: {asyncio.all_tasks()}")
        for tenant in store.tenants():  # those whose requests came to their end meanwhile
            store.forget(tenant.name)
        counts = store.counts()
        if counts["bytes"] or store.underway.bytes:
            raise Failure(f"still held: {counts}")


ODD_HEADERS = [
    "Connection: close", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "Expect: 100-continue", "Prefer: wait",
    "Prefer: wait=1", "Prefer: x", "Cancel-After: 10s", "Cancel-After: 0", "X-Mock-Scenario: slow", "X-Mock-Scenario: x",
    "Range: bytes=0-1", "Range: bytes=5-1", "If-None-Match: a" + " " * 500 + "b", "Last-Event-ID: 1:1", "Cookie: a=b; c",
    "X-Long: " + "a" * 5000, ": nameless", "No colon", "X-Bytes: \u00e9", "Origin: http://evil", "Accept-Encoding: gzip",
]  # fmt: skip
ODD_NAMES = [
    "seed",
    "aspect_ratio",
    "output_format",
    "input_image",
    "image_prompt",
    "raw",
    "unknown",
    "safety_tolerance",
]
ODD_VALUES: list[object] = [
    2, 2.0, -1, 1e300, 10**18, True, None, "", "16:9", "1:0", "png", [], {"a": [1]}, "http://127.0.0.1/x",
    "data:image/png;base64,AAAA", "data:image/jpeg;base64,/9j/" + "/" * 400, "x" * 2000,
]  # fmt: skip
FAULTS: list[dict[str, object] | None] = [
    None, {"status": 503}, {"status": 429, "retry_after": 1}, {"disconnect": "close"}, {"disconnect": "close", "after": "commit"},
    {"cut": 0.5}, {"stall": 0.5}, {"drip": 0.01}, {"body": "malformed"}, {"body": "empty"}, {"delay": 0.01}, {"delay": 0.01, "after": "commit"},
]  # fmt: skip


@contextmanager
def nothing_logged() -> Iterator[None]:
    """Raise what uvicorn logs of an exception in the application."""
    seen: list[str] = []
    logger = logging.getLogger("uvicorn.error")
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: seen.append(handler.format(record))  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if seen:
        raise Failure("\n".join(seen))


async def fuzz(seed: int, *, steps: int = sys.maxsize, seconds: float = float("inf")) -> int:
    """Fuzz a new double for some steps, or seconds; the number of steps. Raises Failure."""
    began = time.monotonic()
    fuzzer = Fuzzer(seed)
    with nothing_logged():
        while fuzzer.steps < steps and time.monotonic() - began < seconds:
            await fuzzer.step()
        await fuzzer.end()
    return fuzzer.steps


def main() -> None:
    arguments = argparse.ArgumentParser(description="Fuzz the double.")
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = arguments.parse_args()
    end, seed, steps = time.monotonic() + options.seconds, options.seed, 0
    while time.monotonic() < end:
        print(f"seed {seed}", flush=True)  # to repeat it: --seed
        steps += asyncio.run(fuzz(seed, steps=2000, seconds=max(1.0, end - time.monotonic())))
        seed += 1
    print(f"{steps} steps, and all is well")


if __name__ == "__main__":
    main()
