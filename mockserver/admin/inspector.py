"""The inspector: one page on top of the admin API, and the stream of changes that updates it."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from functools import cache
from hashlib import sha256
from importlib import resources

import msgspec
from starlette.responses import Response, StreamingResponse

from mockserver.backend.store import Store
from mockserver.contract.api_error import ApiError

MAX_WATCHERS = 64
PAUSE = 0.1  # seconds between two events, at least
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


@cache
def _page() -> tuple[str, str]:
    """The page, with its style and script inline, and its Content-Security-Policy."""
    folder = resources.files("mockserver.admin").joinpath("static")
    style = folder.joinpath("inspector.css").read_text()
    script = folder.joinpath("inspector.js").read_text()
    page = folder.joinpath("inspector.html").read_text()
    page = page.replace("<style></style>", f"<style>{style}</style>").replace(
        "<script></script>", f"<script>{script}</script>"
    )

    # Nothing but this script and style, and requests to this server.
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return page, policy


def _digest(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def inspector_page() -> Response:
    """The response with the page."""
    page, policy = _page()
    return Response(
        page, headers={**HEADERS, "Content-Security-Policy": policy}, media_type="text/html"
    )


def changes_of(store: Store, name: str) -> Response:
    """A stream of events with the state of a tenant's journal and the store.

    There is one at once, and one after each change. Raises ApiError if too many listen.
    """
    if len(store.changes) >= MAX_WATCHERS:
        raise ApiError(503, f"{MAX_WATCHERS} watch already; close a page of the inspector.")
    return StreamingResponse(_events(store, name), headers=HEADERS, media_type="text/event-stream")


async def _events(store: Store, name: str) -> AsyncIterator[bytes]:
    with store.changes.watch() as changed:
        while True:
            changed.clear()
            tenant = store.find(name)
            state = {"recorded": tenant.journal.recorded if tenant else 0, "store": store.counts()}
            yield b"event: change\ndata: " + msgspec.json.encode(state) + b"\n\n"
            await changed.wait()
            await asyncio.sleep(PAUSE)
