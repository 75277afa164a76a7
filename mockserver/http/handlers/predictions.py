"""Predictions: created, read, cancelled, listed, streamed, and shown to people."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from mockserver.backend.prediction import Prediction
from mockserver.clock import MAX_SECOND, MILLISECOND, MIN_SECOND, SECOND, parse_timestamp
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.violations import Violation
from mockserver.http.channel import NO_RESPONSE, Response
from mockserver.http.handlers.context import JSON, Context, json_response
from mockserver.http.prediction_page import life_of, page_of
from mockserver.http.sse import follow
from mockserver.http.webhooks import deliver_webhooks, secret_of
from mockserver.json_text import shorten
from mockserver.scenarios.scenario import USUAL_BODY
from mockserver.scenarios.timeline import TERMINAL
from mockserver.scenarios.variation import vary

LARGE_INPUT = 64 * 1024  # bytes
MAX_WAIT = 60  # seconds that a `Prefer: wait` lasts at most; without a number it stands for these


async def create(context: Context) -> Response:
    """Create a prediction."""
    body, cancel_after = context.request.value, context.request.header(b"cancel-after")
    deadline = None if cancel_after is None else _duration(cancel_after)
    asked = context.backend.contract.model_asked(context.operation, body)
    assert asked is not None  # validation has refused the request otherwise
    prediction = context.backend.create(
        context.tenant, asked, body["input"], context.scenario, context.chosen, deadline
    )
    if body.get("webhook"):
        context.tenant.activity.spawn(prediction.id, _webhooks(context, prediction))
    status = context.scenario.create_status
    if status is None or status not in context.operation.responses:
        status = context.operation.success
    preference = context.request.header(b"prefer") or ""
    if not preference.startswith("wait"):
        return _prediction_response(context, prediction, status, age=0)
    del body
    context.request.let_go()
    seconds = min(int(preference.partition("=")[2] or MAX_WAIT), MAX_WAIT)
    response = await _wait(context, prediction, status, seconds)
    return msgspec.structs.replace(
        response, headers=((b"preference-applied", preference.encode()),)
    )


def _webhooks(context: Context, prediction: Prediction) -> Coroutine[Any, Any, None]:
    """The work of telling a receiver of a prediction's life."""
    wanted = context.request.value.get("webhook_events_filter")
    faults = context.scenario.webhooks
    url = context.request.value["webhook"]
    return deliver_webhooks(
        context.backend,
        context.tenant,
        prediction,
        url,
        wanted,
        context.request.origin,
        context.urls,
        faults,
    )


async def webhook_secret(context: Context) -> Response:
    """The key that the tenant's webhooks are signed with."""
    return json_response(context, {"key": secret_of(context.tenant)})


def _duration(given: str) -> int | None:
    """Nanoseconds until a prediction is to be given up, as `Cancel-After` says; the contract has checked its form."""
    asked = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", given)
    if asked is None or not asked.group():
        return None
    hours, minutes, seconds = (int(part or 0) for part in asked.groups())
    return (hours * 3600 + minutes * 60 + seconds) * SECOND


async def _wait(context: Context, prediction: Prediction, status: int, seconds: int) -> Response:
    """The answer to a create whose client waits for the end, for some seconds of the prediction's time."""
    backend, tenant = context.backend, context.tenant
    created_elapsed = prediction.age(tenant.clock.elapsed())
    followed = await context.request.channel.cancel_on_disconnect(
        backend.follow(tenant, prediction, seconds * SECOND)
    )
    if followed is None:
        return Response(NO_RESPONSE, prediction_id=prediction.id, committed=True)
    prediction = followed
    reached, wait = backend.status(tenant, prediction), context.scenario.wait
    if reached == "succeeded" and wait != "final":
        return _prediction_response(context, prediction, status, unrecorded_end=True)
    if reached in TERMINAL or wait == "processing":
        return _prediction_response(context, prediction, status)
    # Time is up: upstream shows it as it was created, whatever it has become; its own clients poll
    # only then.
    return _prediction_response(context, prediction, status, created_elapsed)


def _without_its_end(shown: Mapping[str, Any], output: str) -> dict[str, Any]:
    """A prediction that has succeeded as upstream shows it at the end of a wait, before its end has been recorded."""
    begun = {
        name: value
        for name, value in shown.items()
        if name not in ("started_at", "completed_at", "metrics")
    }
    return {**begun, "status": "processing", "logs": "", "output": output}


async def get(context: Context) -> Response:
    """Read a prediction, which under autojump moves it on."""
    prediction = context.backend.find(context.tenant, context.request.path_params["prediction_id"])
    return _prediction_response(
        context, context.backend.observe(context.tenant, prediction), context.operation.success
    )


async def cancel(context: Context) -> Response:
    """Cancel a prediction."""
    prediction = context.backend.find(context.tenant, context.request.path_params["prediction_id"])
    return _prediction_response(
        context, context.backend.cancel(context.tenant, prediction), context.operation.success
    )


async def list_page(context: Context) -> Response:
    """One page of predictions, newest first. A list is a look at each of them."""
    backend, tenant = context.backend, context.tenant
    asked = {name: text for name, text in context.request.query_params.items() if name != "cursor"}
    length, item = (
        context.operation.document.get("x-mock-page", 100),
        context.operation.document.get("x-mock-item", {}),
    )
    cursor = context.request.query_params.get("cursor")
    ids, previous, following = backend.page(tenant, cursor, length, _asked_range(asked))
    results, encoded = [], []
    for prediction in [tenant.predictions[identifier] for identifier in ids]:
        seen = backend.observe(tenant, prediction)
        shown = backend.render(tenant, seen, context.request.origin, context.urls)
        if context.response_delivered:
            tenant.record_status_sent(prediction.id, shown["status"])
        kept = {name: value for name, value in shown.items() if name not in item.get("omit", ())}
        shown = {**kept, **item.get("extra", {})}
        results.append(shown)
        encoded.append(msgspec.Raw(_encode(shown, prediction)))
        if len(prediction.input) > LARGE_INPUT:
            await asyncio.sleep(0)  # others are served meanwhile
    here = context.request.origin + context.operation.path
    value = {
        "previous": f"{here}?{urlencode({'cursor': previous, **asked})}" if previous else None,
        "next": f"{here}?{urlencode({'cursor': following, **asked})}" if following else None,
        "results": results,
    }
    body = msgspec.json.encode({**value, "results": encoded})
    return Response(context.operation.success, body, JSON, value=value)


def _asked_range(asked: Mapping[str, str]) -> range | None:
    """The milliseconds since the epoch within which predictions are listed; None for any. Raises ApiError (422)."""
    if "source" in asked:  # the contract knows `web` only, and none comes from there
        return range(0)
    if not asked.keys() & {"created_after", "created_before"}:
        return None
    first, last = MIN_SECOND * 1000, MAX_SECOND * 1000
    for name, given in asked.items():
        if name in ("created_after", "created_before"):
            try:
                instant = -(-parse_timestamp(given.upper()) // MILLISECOND)
            except ValueError as reason:
                said = str(reason)
                fault = Violation(
                    f"?{name}", "format", name, said, shorten(given), "such as 2025-01-01T00:00:00Z"
                )
                raise validation_error([fault]) from reason
            first, last = (instant, last) if name == "created_after" else (first, instant)
    return range(first, last)


async def stream(context: Context) -> Response:
    """A prediction's life as server-sent events; whoever has the URL may follow it."""
    identifier = context.request.path_params["prediction_id"]
    owner = context.backend.store.owner(identifier)
    if owner is None:
        raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
    prediction = context.backend.find(owner, identifier)
    last_id = context.request.header(b"last-event-id")
    events = follow(
        context.backend, owner, prediction, context.request.origin, last_id, context.scenario.stream
    )
    headers = ((b"cache-control", b"no-store"),)
    kind = "text/event-stream; charset=utf-8"
    return Response(
        context.operation.success, b"", kind, headers, prediction_id=identifier, events=events
    )


async def view(context: Context) -> Response:
    """A page for people. Looking at it moves nothing."""
    backend = context.backend
    identifier = context.request.path_params["prediction_id"]
    tenant = backend.store.owner(identifier)
    if tenant is None:
        raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
    prediction = backend.find(tenant, identifier)
    life = life_of(backend, tenant, prediction, context.request.origin, context.urls)
    asked = (
        exchange
        for exchange in tenant.journal
        if exchange.operation_id != context.operation.operation_id
    )
    page = page_of(life, asked, tenant.deliveries, tenant.clock.mode, tenant.secret).encode()
    pictures = backend.files_origin or "'self'"
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'".encode()
    headers = ((b"content-security-policy", policy), (b"x-content-type-options", b"nosniff"))
    return Response(
        context.operation.success,
        page,
        "text/html; charset=utf-8",
        headers,
        prediction_id=prediction.id,
    )


def _prediction_response(
    context: Context,
    prediction: Prediction,
    status: int,
    age: int | None = None,
    *,
    unrecorded_end: bool = False,
) -> Response:
    """The answer that tells a client of a prediction, as it is now or was at an age of its own, in nanoseconds.

    With `unrecorded_end` one that has succeeded is shown as running still, with its output.
    """
    backend, tenant = context.backend, context.tenant
    creating = (
        context.operation.role == "create"
    )  # its answer has everything, however soon the data expire
    value = backend.render(
        tenant, prediction, context.request.origin, context.urls, age=age, include_expired=creating
    )
    if unrecorded_end:
        value = _without_its_end(value, backend.output_url(prediction, context.request.origin))
    if context.response_delivered:
        tenant.record_status_sent(prediction.id, value["status"])
    if context.scenario.body is not USUAL_BODY:
        value = vary(context.scenario.body, context.operation, status, value)
    return Response(
        status,
        _encode(value, prediction),
        JSON,
        value=value,
        prediction_id=prediction.id,
        prediction_status=value["status"],
        committed=context.operation.method != "GET",
    )


def _encode(value: dict[str, Any], prediction: Prediction) -> bytes:
    """A prediction as JSON. Of a large input, what is kept of it is JSON already: to encode it again takes long."""
    if len(prediction.input) > LARGE_INPUT and value.get("input"):
        value = {**value, "input": msgspec.Raw(prediction.input)}
    return msgspec.json.encode(value)
