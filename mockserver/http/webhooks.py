"""Webhooks: a prediction's life as signed requests to the URL that its create names."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
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

# Seconds between attempts; Replicate gives up about a minute after completion.
RETRIES = (1, 2, 4, 8, 16, 30)
FORGED = Webhooks(signature="wrong")  # how a forged one is delivered: once
NOT_ALLOWED = (
    "not sent: only this machine is called unless the double is started with --webhook-allow HOST"
)
TIMEOUT = 5.0  # seconds of real time for a receiver to respond
STALE = 3600  # seconds by which a stale timestamp lies in the past
_WRONG_SECRET = "whsec_" + b64encode(b"wrong").decode()


class Receiver(msgspec.Struct, frozen=True):
    """Where webhooks go, and the names of the events that are wanted; None for all.

    `own_port` is the port on which this server listens, and to which it sends no webhooks: they
    would call its admin API from loopback.
    """

    url: str
    events: Sequence[str] | None = None
    own_port: int | None = None

    def wants(self, name: str) -> bool:
        """Whether an event of that name is to be delivered."""
        return self.events is None or name in self.events

    def as_json(self) -> dict[str, Any]:
        """What the body of each webhook repeats of the create."""
        if self.events is None:
            return {"webhook": self.url}
        return {"webhook": self.url, "webhook_events_filter": self.events}


class WebhookEvent(msgspec.Struct, frozen=True):
    """One event to deliver. `value` makes its body, which may be large, when it is sent."""

    name: str
    id: str
    value: Callable[[], dict[str, Any]]


def secret_of(tenant: TenantState) -> str:
    """The key that a tenant's webhooks are signed with, as Replicate hands it out."""
    key = blake2b(tenant.key, digest_size=24, person=b"webhooks").digest()
    return "whsec_" + b64encode(key).decode()


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
    receiver: Receiver,
    base_url: str,
    urls: Urls,
) -> list[WebhookEvent]:
    """All events of a prediction's life up to an own time of `age`, in nanoseconds."""
    renderer = backend.renderer
    events: list[WebhookEvent] = []

    def add(name: str, value: Callable[[], dict[str, Any]]) -> None:
        digest = blake2b(f"{prediction.id}/{len(events)}".encode(), digest_size=12).hexdigest()
        events.append(
            WebhookEvent(name, f"msg_{digest}", lambda: {**value(), **receiver.as_json()})
        )

    def rendered(at: int) -> dict[str, Any]:
        return renderer.render(tenant, prediction, base_url, urls, age=at, include_expired=True)

    def with_output(at: int) -> dict[str, Any]:
        # The event of an output comes before the end: the prediction still runs, and has it.
        before = rendered(max(0, at - 1))
        if before["status"] != "processing":
            return rendered(at)
        return {**before, "output": renderer.output_url(prediction, base_url)}

    add("start", partial(rendered, 0))
    for stage, text in renderer.log_pieces(prediction, age):
        if stage.status not in TERMINAL:
            if text:
                add("logs", partial(rendered, stage.at))
            continue
        if stage.status == "succeeded":
            add("output", partial(with_output, stage.at))
        add("completed", partial(rendered, stage.at))
    return events


async def deliver_webhooks(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    receiver: Receiver,
    base_url: str,
    urls: Urls,
    faults: Webhooks,
) -> None:
    """Follow a prediction to its end, and deliver each event in order, except for faults."""
    handled = 0
    held: list[WebhookEvent] = []
    with tenant.activity.follower() as follower:
        while prediction.id in tenant.predictions:
            prediction = tenant.predictions[prediction.id]
            age = prediction.age(tenant.clock.elapsed())
            events = webhook_events(backend, tenant, prediction, age, receiver, base_url, urls)
            ended = events[-1].name == "completed"
            fresh = [event for event in events[handled:] if receiver.wants(event.name)]
            handled = len(events)
            if faults.out_of_order:
                held += fresh
                fresh = held[::-1] if ended else []

            for event in fresh:
                await asyncio.sleep(faults.late)
                if faults.forged and event.name == "completed":
                    forged = _forged(event, base_url)
                    await _deliver(backend, tenant, prediction, receiver, forged, FORGED, follower)
                for _ in range(2 if faults.duplicate else 1):
                    await _deliver(backend, tenant, prediction, receiver, event, faults, follower)
            if ended:
                return
            await backend.await_next_change(tenant, prediction, follower)


async def _deliver(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    receiver: Receiver,
    event: WebhookEvent,
    faults: Webhooks,
    follower: Follower,
) -> None:
    """Deliver one event; the last one of a prediction again and again, if it is not accepted."""
    once = faults.lost or faults is FORGED
    pauses = RETRIES if event.name == "completed" and not once else ()
    age_of_timestamp = STALE if faults.timestamp == "stale" else 0
    for attempt in range(len(pauses) + 1):
        attempted = Delivery(
            event=event.name,
            prediction_id=prediction.id,
            url=receiver.url,
            webhook_id=event.id,
            timestamp=tenant.clock.now() // SECOND - age_of_timestamp,
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
        elif not is_allowed(receiver.url, backend.options.webhook_allow):
            ended = _not_sent(attempted, event, NOT_ALLOWED)
        else:
            secret = secret_of(tenant) if faults.signature == "valid" else _WRONG_SECRET
            ended = await _send(backend, tenant, receiver, attempted, event, secret)

        backend.store.record_delivery(tenant, ended)
        if ended.delivered:
            return
        if attempt < len(pauses):
            await _pause(tenant, follower, pauses[attempt])


def _not_sent(attempted: Delivery, event: WebhookEvent, reason: str) -> Delivery:
    body = msgspec.json.encode(event.value())
    return msgspec.structs.replace(attempted, body=body, error=reason)


async def _send(
    backend: Backend,
    tenant: TenantState,
    receiver: Receiver,
    attempted: Delivery,
    event: WebhookEvent,
    secret: str,
) -> Delivery:
    """Post an event, and wait for the receiver's response: the delivery with its outcome."""
    # The tenant's turn comes first: what waits for it takes no place in the queue of all tenants.
    async with tenant.activity.posting, backend.posting:
        # The body is made only now: many events may wait for their turn.
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
            status, error = await _post_in_thread(receiver, headers, body)
    delivered = status is not None and 200 <= status < 300
    return msgspec.structs.replace(
        sent, status=status, error=error, delivered=delivered, final=delivered or sent.final
    )


def _forged(event: WebhookEvent, base_url: str) -> WebhookEvent:
    """What somebody else might send in the gateway's name."""
    picture = f"{base_url}/forged/output.jpg"
    lie = {"status": "succeeded", "output": picture, "error": None}
    return WebhookEvent(event.name, f"{event.id}f", lambda: {**event.value(), **lie})


async def _pause(tenant: TenantState, follower: Follower, seconds: int) -> None:
    """Let some seconds of the tenant's time pass; under autojump they pass at once."""
    due = tenant.clock.elapsed() + seconds * SECOND
    while tenant.clock.mode != "autojump" and tenant.clock.elapsed() < due:
        await follower.sleep_until(due)


async def _post_in_thread(
    receiver: Receiver, headers: dict[str, str], body: bytes
) -> tuple[int | None, str | None]:
    """Post in a thread of its own.

    The loop's pool is shared with the drawing of pictures, and silent receivers would fill it.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[tuple[int | None, str | None]] = loop.create_future()

    def hand_over(result: tuple[int | None, str | None]) -> None:
        if not outcome.done():
            outcome.set_result(result)

    def work() -> None:
        result = post(receiver.url, headers, body, TIMEOUT, own_port=receiver.own_port)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(hand_over, result)

    threading.Thread(target=work, daemon=True).start()
    return await outcome
