"""Predictions: created, read, canceled, listed, streamed, and shown to people."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from mockserver.backend.prediction import Prediction
from mockserver.backend.tenant import TenantState
from mockserver.clock import MAX_SECOND, MILLISECOND, MIN_SECOND, SECOND, parse_timestamp
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.violations import Violation
from mockserver.http.channel import JSON, NO_RESPONSE, Response
from mockserver.http.handlers.context import Context, Handled, json_response
from mockserver.http.prediction_page import life_of, page_of
from mockserver.http.sse import follow
from mockserver.http.webhooks import Receiver, deliver_webhooks, secret_of
from mockserver.json_text import shorten
from mockserver.scenarios.scenario import USUAL_BODY
from mockserver.scenarios.timeline import TERMINAL
from mockserver.scenarios.variation import vary

LARGE_INPUT = 64 * 1024  # bytes
MAX_WAIT = 60  # seconds: the longest `Prefer: wait`, and that of one without a number


async def create(context: Context) -> Handled:
    """Create a prediction."""
    backend, operation, request = context.backend, context.operation, context.request
    body = request.body.json()
    model = backend.contract.model_asked(operation, body)
    assert model is not None  # validation has refused the request otherwise
    cancel_after = request.header(b"cancel-after")
    prediction = backend.create(
        context.tenant,
        model,
        body["input"],
        context.scenario,
        context.chosen,
        None if cancel_after is None else _duration(cancel_after),
    )
    created = model.operation_id, model.known.intersection(body["input"])
    if body.get("webhook"):
        context.tenant.activity.spawn(prediction.id, _webhooks(context, prediction, body))

    status = context.scenario.create_status
    if status is None or status not in operation.responses:
        status = operation.success
    preference = request.header(b"prefer") or ""
    if not preference.startswith("wait"):
        return _prediction_response(context, prediction, status, age=0, created=created)

    del body
    request.body.release()
    seconds = min(int(preference.partition("=")[2] or MAX_WAIT), MAX_WAIT)
    handled = await _wait(context, prediction, status, seconds)
    applied = ((b"preference-applied", preference.encode()),)
    response = msgspec.structs.replace(handled.response, headers=applied)
    return msgspec.structs.replace(handled, response=response, created=created)


def _webhooks(
    context: Context, prediction: Prediction, body: Mapping[str, Any]
) -> Coroutine[Any, Any, None]:
    """The work of delivering a prediction's webhooks, as the body of its create asks for them."""
    receiver = Receiver(body["webhook"], body.get("webhook_events_filter"), context.request.port)
    return deliver_webhooks(
        context.backend,
        context.tenant,
        prediction,
        receiver,
        context.request.base_url,
        context.urls,
        context.scenario.webhooks,
    )


async def webhook_secret(context: Context) -> Handled:
    """The key that the tenant's webhooks are signed with."""
    return json_response(context, {"key": secret_of(context.tenant)})


def _duration(text: str) -> int | None:
    """The nanoseconds of a `Cancel-After`, whose form the contract has checked."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if match is None or not match.group():
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (hours * 3600 + minutes * 60 + seconds) * SECOND


async def _wait(context: Context, prediction: Prediction, status: int, seconds: int) -> Handled:
    """The response to a create whose client waits, for some seconds of the prediction's time."""
    backend, tenant = context.backend, context.tenant
    age_at_creation = prediction.age(tenant.clock.elapsed())
    followed = await context.request.channel.cancel_on_disconnect(
        backend.follow(tenant, prediction, seconds * SECOND)
    )
    if followed is None:
        return Handled(Response(NO_RESPONSE), prediction_id=prediction.id, committed=True)

    reached, wait = backend.status(tenant, followed), context.scenario.wait
    if reached == "succeeded" and wait != "final":
        return _prediction_response(context, followed, status, unrecorded_end=True)
    if reached in TERMINAL or wait == "processing":
        return _prediction_response(context, followed, status)
    # Time is up. Replicate shows the prediction as it was created, whatever it has become since,
    # and its own clients start to poll then.
    return _prediction_response(context, followed, status, age_at_creation)


def _without_its_end(rendered: Mapping[str, Any], output: str) -> dict[str, Any]:
    """A prediction that has succeeded as Replicate shows it at the end of a wait.

    Its end has not been recorded by then.
    """
    begun = {
        name: value
        for name, value in rendered.items()
        if name not in ("started_at", "completed_at", "metrics")
    }
    return {**begun, "status": "processing", "logs": "", "output": output}


async def get(context: Context) -> Handled:
    """Read a prediction, which under autojump moves it on."""
    backend, tenant = context.backend, context.tenant
    prediction = backend.find(tenant, context.request.path_params["prediction_id"])
    prediction = backend.observe(tenant, prediction)
    return _prediction_response(context, prediction, context.operation.success)


async def cancel(context: Context) -> Handled:
    """Cancel a prediction."""
    backend, tenant = context.backend, context.tenant
    prediction = backend.find(tenant, context.request.path_params["prediction_id"])
    prediction = backend.cancel(tenant, prediction)
    return _prediction_response(context, prediction, context.operation.success)


async def list_page(context: Context) -> Handled:
    """One page of predictions, newest first. A list is a look at each of them."""
    backend, tenant, operation = context.backend, context.tenant, context.operation
    base_url, query = context.request.base_url, context.request.query_params
    filters = {name: text for name, text in query.items() if name != "cursor"}
    length = operation.document.get("x-mock-page", 100)
    item = operation.document.get("x-mock-item", {})
    created = _created_range(filters)
    ids, previous, following = backend.page(tenant, query.get("cursor"), length, created)

    results, encoded, statuses = [], [], []
    for prediction in [tenant.predictions[identifier] for identifier in ids]:
        observed = backend.observe(tenant, prediction)
        rendered = backend.renderer.render(tenant, observed, base_url, context.urls)
        statuses.append((prediction.id, rendered["status"]))
        for name in item.get("omit", ()):
            rendered.pop(name, None)
        rendered.update(item.get("extra", {}))
        results.append(rendered)
        encoded.append(msgspec.Raw(_encode(rendered, prediction)))
        if len(prediction.input) > LARGE_INPUT:
            await asyncio.sleep(0)  # others are served meanwhile

    here = base_url + operation.path
    value = {
        "previous": f"{here}?{urlencode({'cursor': previous, **filters})}" if previous else None,
        "next": f"{here}?{urlencode({'cursor': following, **filters})}" if following else None,
        "results": results,
    }
    response = Response(operation.success, msgspec.json.encode({**value, "results": encoded}), JSON)
    return Handled(response, value, listed=statuses)


def _created_range(filters: Mapping[str, str]) -> range | None:
    """The milliseconds since the epoch within which listed predictions were created; None for any.

    Raises ApiError (422).
    """
    if "source" in filters:  # the contract knows `web` only, and no prediction comes from there
        return range(0)
    if not filters.keys() & {"created_after", "created_before"}:
        return None
    first, last = MIN_SECOND * 1000, MAX_SECOND * 1000
    if "created_after" in filters:
        first = _instant("created_after", filters["created_after"])
    if "created_before" in filters:
        last = _instant("created_before", filters["created_before"])
    return range(first, last)


def _instant(name: str, text: str) -> int:
    """The milliseconds since the epoch of a timestamp in the query. Raises ApiError (422)."""
    try:
        return -(-parse_timestamp(text.upper()) // MILLISECOND)
    except ValueError as reason:
        allowed = "such as 2025-01-01T00:00:00Z"
        violation = Violation(f"?{name}", "format", name, str(reason), shorten(text), allowed)
        raise validation_error([violation]) from reason


async def stream(context: Context) -> Handled:
    """A prediction's life as server-sent events; anybody who has the URL may follow it."""
    owner, prediction = _public(context)
    last_id = context.request.header(b"last-event-id")
    events = follow(
        context.backend,
        owner,
        prediction,
        context.request.base_url,
        last_id,
        context.scenario.stream,
    )
    headers = ((b"cache-control", b"no-store"),)
    media_type = "text/event-stream; charset=utf-8"
    response = Response(context.operation.success, b"", media_type, headers, events=events)
    return Handled(response, prediction_id=prediction.id)


async def view(context: Context) -> Handled:
    """A page for people. Looking at it moves nothing."""
    backend, operation = context.backend, context.operation
    tenant, prediction = _public(context)
    life = life_of(backend, tenant, prediction, context.request.base_url, context.urls)
    others = (
        exchange for exchange in tenant.journal if exchange.operation_id != operation.operation_id
    )
    page = page_of(life, others, tenant.deliveries, tenant.clock.mode, tenant.secret).encode()
    pictures = backend.renderer.files_url or "'self'"
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'".encode()
    headers = ((b"content-security-policy", policy), (b"x-content-type-options", b"nosniff"))
    response = Response(operation.success, page, "text/html; charset=utf-8", headers)
    return Handled(response, prediction_id=prediction.id)


def _public(context: Context) -> tuple[TenantState, Prediction]:
    """The prediction of the path, whosoever's it is, and its tenant. Raises ApiError (404)."""
    identifier = context.request.path_params["prediction_id"]
    owner = context.backend.store.owner(identifier)
    if owner is None:
        raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
    return owner, context.backend.find(owner, identifier)


def _prediction_response(
    context: Context,
    prediction: Prediction,
    status: int,
    age: int | None = None,
    *,
    unrecorded_end: bool = False,
    created: tuple[str, frozenset[str]] | None = None,
) -> Handled:
    """A response that shows a prediction, as it is now or was at an age, in nanoseconds.

    With `unrecorded_end` a prediction that has succeeded is shown as still running, with its
    output.
    """
    operation, renderer = context.operation, context.backend.renderer
    base_url = context.request.base_url
    value = renderer.render(
        context.tenant,
        prediction,
        base_url,
        context.urls,
        age=age,
        # The response to a create shows everything, however soon the data expire.
        include_expired=operation.role == "create",
    )
    if unrecorded_end:
        value = _without_its_end(value, renderer.output_url(prediction, base_url))
    shown_status = value["status"]
    if context.scenario.body is not USUAL_BODY:
        value = vary(context.scenario.body, operation, status, value)
    return Handled(
        Response(status, _encode(value, prediction), JSON),
        value,
        prediction.id,
        shown_status,
        operation.method != "GET",
        created,
    )


def _encode(value: dict[str, Any], prediction: Prediction) -> bytes:
    """A rendered prediction as JSON.

    A large input is not encoded again, which would take long: what is kept of it is JSON.
    """
    if len(prediction.input) > LARGE_INPUT and value.get("input"):
        value = {**value, "input": msgspec.Raw(prediction.input)}
    return msgspec.json.encode(value)
