"""Webhooks: a prediction's life as signed requests to an address that its creator gave."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.deliveries import Delivery
from mockserver.backend.followers import Follower
from mockserver.backend.prediction import Prediction
from mockserver.backend.tenant import TenantState
from mockserver.clock import SECOND, wall_time
from mockserver.http.post import post
from mockserver.scenarios.scenario import Urls, Webhooks
from mockserver.scenarios.timeline import TERMINAL

RETRIES = (
    1,
    2,
    4,
    8,
    16,
    30,
)  # seconds after one another; upstream gives up about a minute after completion
FORGED = Webhooks(signature="wrong")  # how a forged one is delivered: once
NOT_ALLOWED = (
    "not sent: only this machine is called unless the double is started with --webhook-allow HOST"
)
TIMEOUT = 5.0  # seconds of real time that a receiver is given
STALE = 3600  # seconds by which a stale timestamp lies in the past


class WebhookEvent(msgspec.Struct, frozen=True):
    """One thing to tell a receiver. `value` makes what the body says: it may be large, and wait long."""

    name: str
    id: str
    value: Callable[[], dict[str, Any]]


def secret_of(tenant: TenantState) -> str:
    """The key that a tenant's webhooks are signed with, as upstream hands it out."""
    return (
        "whsec_"
        + b64encode(blake2b(tenant.key, digest_size=24, person=b"webhooks").digest()).decode()
    )


def sign(secret: str, identifier: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of a body (Standard Webhooks 1.0)."""
    key = b64decode(secret.removeprefix("whsec_"))
    signed = f"{identifier}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.new(key, signed, sha256).digest()).decode()


def is_allowed(url: str, allowed: Iterable[str]) -> bool:
    """Whether a webhook may go there: to this machine, or to a host that the user has named."""
    try:
        host = (urlsplit(url).hostname or "").lower()
        return host == "localhost" or host in allowed or ipaddress.ip_address(host).is_loopback
    except ValueError:  # neither a name that is allowed nor an address
        return False


def webhook_events(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    age: int,
    origin: str,
    urls: Urls,
    asked: Mapping[str, Any],
) -> list[WebhookEvent]:
    """Everything there is to tell of a prediction's life up to an own time of `age`, in nanoseconds.

    `asked` is what its create said of webhooks, which each body repeats.
    """
    found: list[WebhookEvent] = []

    def add(name: str, value: Callable[[], dict[str, Any]]) -> None:
        digest = blake2b(f"{prediction.id}/{len(found)}".encode(), digest_size=12).hexdigest()
        found.append(WebhookEvent(name, f"msg_{digest}", lambda: {**value(), **asked}))

    def shown(at: int) -> dict[str, Any]:
        return backend.render(tenant, prediction, origin, urls, age=at, include_expired=True)

    def with_output(at: int) -> dict[str, Any]:
        # An output is told of before the end: the prediction still runs, and has it.
        before = shown(max(0, at - 1))
        running = before["status"] == "processing"
        return (
            {**before, "output": backend.output_url(prediction, origin)} if running else shown(at)
        )

    add("start", partial(shown, 0))
    for stage, text in backend.log_pieces(prediction, age):
        if stage.status not in TERMINAL:
            if text:
                add("logs", partial(shown, stage.at))
            continue
        if stage.status == "succeeded":
            add("output", partial(with_output, stage.at))
        add("completed", partial(shown, stage.at))
    return found


async def deliver_webhooks(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    url: str,
    wanted: Sequence[str] | None,
    origin: str,
    urls: Urls,
    faults: Webhooks,
) -> None:
    """Follow a prediction to its end, and tell a receiver of each event in order, but for what faults change."""
    told = 0
    held: list[WebhookEvent] = []
    asked = {"webhook": url, **({} if wanted is None else {"webhook_events_filter": wanted})}
    with tenant.activity.follower() as follower:
        while prediction.id in tenant.predictions:
            prediction = tenant.predictions[prediction.id]
            age = prediction.age(tenant.clock.elapsed())
            events = webhook_events(backend, tenant, prediction, age, origin, urls, asked)
            ended = events[-1].name == "completed"
            fresh = [event for event in events[told:] if wanted is None or event.name in wanted]
            told = len(events)
            if faults.out_of_order:
                held += fresh
                fresh = held[::-1] if ended else []
            for event in fresh:
                await asyncio.sleep(faults.late)
                if faults.forged and event.name == "completed":
                    await _deliver_event(
                        backend, tenant, prediction, url, _forged(event, origin), FORGED, follower
                    )
                for _ in range(2 if faults.duplicate else 1):
                    await _deliver_event(backend, tenant, prediction, url, event, faults, follower)
            if ended:
                return
            await backend.await_next_change(tenant, prediction, follower)


async def _deliver_event(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    url: str,
    event: WebhookEvent,
    faults: Webhooks,
    follower: Follower,
) -> None:
    """Deliver one event; the last one again and again, if need be."""
    once = faults.lost or faults is FORGED
    pauses = RETRIES if event.name == "completed" and not once else ()
    for attempt in range(len(pauses) + 1):
        attempted = Delivery(
            event=event.name,
            prediction_id=prediction.id,
            url=url,
            webhook_id=event.id,
            timestamp=tenant.clock.now() // SECOND - (STALE if faults.timestamp == "stale" else 0),
            attempt=attempt + 1,
            status=None,
            error=None,
            delivered=False,
            final=attempt == len(pauses) and not once,
            body=b"",
            genuine=faults.signature == "valid" and faults.timestamp == "now",
        )
        if faults.lost:
            ended = _not_sent(attempted, event, "lost, as the scenario has it")
        elif is_allowed(url, backend.options.webhook_allow):
            secret = (
                secret_of(tenant)
                if faults.signature == "valid"
                else "whsec_" + b64encode(b"wrong").decode()
            )
            ended = await _send(backend, tenant, attempted, event, secret)
        else:
            ended = _not_sent(attempted, event, NOT_ALLOWED)
        backend.store.record_delivery(tenant, ended)
        if ended.delivered:
            return
        if attempt < len(pauses):
            await _pause(tenant, follower, pauses[attempt])


def _not_sent(attempted: Delivery, event: WebhookEvent, why: str) -> Delivery:
    return msgspec.structs.replace(attempted, body=msgspec.json.encode(event.value()), error=why)


async def _send(
    backend: Backend, tenant: TenantState, attempted: Delivery, event: WebhookEvent, secret: str
) -> Delivery:
    """Post an event, and wait for the receiver's answer: the delivery with what came of it."""
    async with backend.posting:  # what waits for its turn has no body yet: there may be many
        body = msgspec.json.encode(event.value())
        headers = {
            "content-type": "application/json",
            "user-agent": "mockserver",
            "webhook-id": event.id,
            "webhook-timestamp": str(attempted.timestamp),
            "webhook-signature": sign(secret, event.id, attempted.timestamp, body),
        }
        sent = msgspec.structs.replace(attempted, body=body, sent_at=wall_time())
        with backend.store.holding(len(body)), tenant.deliveries.awaiting(sent):
            status, error = await _post_in_thread(sent.url, headers, body)
    delivered = status is not None and 200 <= status < 300
    return msgspec.structs.replace(
        sent, status=status, error=error, delivered=delivered, final=delivered or sent.final
    )


def _forged(event: WebhookEvent, origin: str) -> WebhookEvent:
    """What somebody else sends in the name of the gateway."""
    picture = f"{origin}/forged/output.jpg"
    lie = {"status": "succeeded", "output": picture, "error": None}
    return WebhookEvent(event.name, f"{event.id}f", lambda: {**event.value(), **lie})


async def _pause(tenant: TenantState, follower: Follower, seconds: int) -> None:
    """Let some seconds of the tenant's time pass; under autojump they pass at once."""
    due = tenant.clock.elapsed() + seconds * SECOND
    while tenant.clock.mode != "autojump" and tenant.clock.elapsed() < due:
        await follower.sleep_until(due)


async def _post_in_thread(
    url: str, headers: dict[str, str], body: bytes
) -> tuple[int | None, str | None]:
    """Post in a thread of its own: a pool would be shared with pictures, and silent receivers would fill it."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[tuple[int | None, str | None]] = loop.create_future()

    def hand_over(result: tuple[int | None, str | None]) -> None:
        if not answered.done():
            answered.set_result(result)

    def work() -> None:
        result = post(url, headers, body, TIMEOUT)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(hand_over, result)

    threading.Thread(target=work, daemon=True).start()
    return await answered
