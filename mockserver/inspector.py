"""The inspector: one page over the admin API, and the stream of changes that keeps it alive."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from mockserver.backend.backend import Gateway
from mockserver.backend.prediction import Prediction, effective_timeline, next_stage
from mockserver.backend.store import Store
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND, timestamp
from mockserver.contract.api_error import ApiError
from mockserver.scenarios.scenario import Urls

MAX_WATCHERS = 64
PAUSE = 0.1  # seconds between two events, however much happens
STAYS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


@cache
def _page() -> tuple[str, str]:
    """The page with its style and script in it, and the policy that lets it do no more than it has to."""
    folder = resources.files("mockserver").joinpath("inspector")
    style, script = folder.joinpath("inspector.css").read_text(), folder.joinpath("inspector.js").read_text()
    page = folder.joinpath("inspector.html").read_text()
    page = page.replace("<style></style>", f"<style>{style}</style>").replace(
        "<script></script>", f"<script>{script}</script>"
    )
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; connect-src 'self'; "
        "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _digest(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def inspector_page() -> Response:
    """The page, which may run its own script and talk to this API, and do nothing else."""
    page, policy = _page()
    return Response(page, headers={**STAYS, "Content-Security-Policy": policy}, media_type="text/html")


def changes_of(store: Store, name: str) -> Response:
    """A stream of events: what a tenant's journal and the store have come to, now and after each change."""
    if len(store.changes) >= MAX_WATCHERS:
        raise ApiError(503, f"{MAX_WATCHERS} watch already; close a page of the inspector.")
    return StreamingResponse(_events(store, name), headers=STAYS, media_type="text/event-stream")


async def _events(store: Store, name: str) -> AsyncIterator[bytes]:
    with store.changes.watch() as changed:
        while True:
            changed.clear()
            tenant = store.find(name)
            state = {"recorded": tenant.journal.recorded if tenant else 0, "store": store.counts()}
            yield b"event: change\ndata: " + msgspec.json.encode(state) + b"\n\n"
            await changed.wait()
            await asyncio.sleep(PAUSE)


def life_of(
    gateway: Gateway, tenant: TenantState, prediction: Prediction, origin: str, urls: Urls | None = None
) -> dict[str, Any]:
    """A prediction with its timeline, in seconds of its own time, and what is to come."""
    age = prediction.age(tenant.clock.elapsed())
    coming = next_stage(prediction, age)
    return {
        "prediction": gateway.render(tenant, prediction, origin, urls or gateway.options.urls),
        "now": timestamp(tenant.clock.now()),
        "age": age / SECOND,
        "stages": [{"status": stage.status, "at": stage.at / SECOND} for stage in effective_timeline(prediction)],
        "next": None if coming is None else {"status": coming.status, "in": (coming.at - age) / SECOND},
    }
