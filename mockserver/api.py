"""What the double does for each x-mock-role: thin handlers from a request to an answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hmac import compare_digest
from typing import Any
from urllib.parse import urlencode

import msgspec

from mockserver.backend.backend import Gateway
from mockserver.backend.files import StoredFile, signature_of
from mockserver.backend.journal import ANONYMOUS
from mockserver.backend.pictures import Picture
from mockserver.backend.prediction import Prediction
from mockserver.backend.tenant import TenantState
from mockserver.clock import MAX_SECOND, MILLISECOND, MIN_SECOND, SECOND, parse_timestamp
from mockserver.contract.api_error import ApiError, validation_error
from mockserver.contract.model_info import describe_model, describe_version
from mockserver.contract.operation import ROLES, Operation
from mockserver.contract.violations import Violation
from mockserver.inspector import life_of
from mockserver.json_text import shorten
from mockserver.prediction_page import page_of
from mockserver.request import Request
from mockserver.scenarios.scenario import USUAL_BODY, Scenario, Urls
from mockserver.scenarios.timeline import TERMINAL
from mockserver.scenarios.variation import vary
from mockserver.stream import follow
from mockserver.uploads import read_upload
from mockserver.webhooks import deliver_webhooks, secret_of
from mockserver.wire import NO_RESPONSE, Response

JSON = "application/json"
LARGE_INPUT = 64 * 1024  # bytes
MAX_WAIT = 60  # seconds that a `Prefer: wait` lasts at most; without a number it stands for these


class Context(msgspec.Struct, frozen=True):
    """A request that the contract allows, ready to be handled.

    `chosen` is the scenario if the request itself asked for it; `response_delivered` tells whether the response is to
    arrive whole.
    """

    gateway: Gateway
    tenant: TenantState
    operation: Operation
    scenario: Scenario
    chosen: Scenario | None
    request: Request
    response_delivered: bool = True

    @property
    def urls(self) -> Urls:
        """Where the URLs in predictions are to point."""
        return self.scenario.urls or self.gateway.options.urls


Handler = Callable[[Context], Awaitable[Response]]


async def create(context: Context) -> Response:
    """Create a prediction."""
    body, cancel_after = context.request.value, context.request.header(b"cancel-after")
    deadline = None if cancel_after is None else _duration(cancel_after)
    asked = context.gateway.contract.model_asked(context.operation, body)
    assert asked is not None  # validation has refused the request otherwise
    prediction = context.gateway.create(
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
    return msgspec.structs.replace(response, headers=((b"preference-applied", preference.encode()),))


def _webhooks(context: Context, prediction: Prediction) -> Coroutine[Any, Any, None]:
    """The work of telling a receiver of a prediction's life."""
    wanted = context.request.value.get("webhook_events_filter")
    faults = context.scenario.webhooks
    url = context.request.value["webhook"]
    return deliver_webhooks(
        context.gateway, context.tenant, prediction, url, wanted, context.request.origin, context.urls, faults
    )


async def webhook_secret(context: Context) -> Response:
    """The key that the tenant's webhooks are signed with."""
    return _json(context, {"key": secret_of(context.tenant)})


def _duration(given: str) -> int | None:
    """Nanoseconds until a prediction is to be given up, as `Cancel-After` says; the contract has checked its form."""
    asked = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", given)
    if asked is None or not asked.group():
        return None
    hours, minutes, seconds = (int(part or 0) for part in asked.groups())
    return (hours * 3600 + minutes * 60 + seconds) * SECOND


async def _wait(context: Context, prediction: Prediction, status: int, seconds: int) -> Response:
    """The answer to a create whose client waits for the end, for some seconds of the prediction's time."""
    gateway, tenant = context.gateway, context.tenant
    created_elapsed = prediction.age(tenant.clock.elapsed())
    followed = await context.request.channel.cancel_on_disconnect(gateway.follow(tenant, prediction, seconds * SECOND))
    if followed is None:
        return Response(NO_RESPONSE, prediction_id=prediction.id, committed=True)
    prediction = followed
    reached, wait = gateway.status(tenant, prediction), context.scenario.wait
    if reached == "succeeded" and wait != "final":
        return _prediction_response(context, prediction, status, unrecorded_end=True)
    if reached in TERMINAL or wait == "processing":
        return _prediction_response(context, prediction, status)
    # Time is up: upstream shows it as it was created, whatever it has become; its own clients poll only then.
    return _prediction_response(context, prediction, status, created_elapsed)


def _without_its_end(shown: Mapping[str, Any], output: str) -> dict[str, Any]:
    """A prediction that has succeeded as upstream shows it at the end of a wait, before its end has been recorded."""
    begun = {name: value for name, value in shown.items() if name not in ("started_at", "completed_at", "metrics")}
    return {**begun, "status": "processing", "logs": "", "output": output}


async def get(context: Context) -> Response:
    """Read a prediction, which under autojump moves it on."""
    prediction = context.gateway.find(context.tenant, context.request.path_params["prediction_id"])
    return _prediction_response(context, context.gateway.observe(context.tenant, prediction), context.operation.success)


async def cancel(context: Context) -> Response:
    """Cancel a prediction."""
    prediction = context.gateway.find(context.tenant, context.request.path_params["prediction_id"])
    return _prediction_response(context, context.gateway.cancel(context.tenant, prediction), context.operation.success)


async def list_page(context: Context) -> Response:
    """One page of predictions, newest first. A list is a look at each of them."""
    gateway, tenant = context.gateway, context.tenant
    asked = {name: text for name, text in context.request.query_params.items() if name != "cursor"}
    length, item = context.operation.document.get("x-mock-page", 100), context.operation.document.get("x-mock-item", {})
    cursor = context.request.query_params.get("cursor")
    ids, previous, following = gateway.page(tenant, cursor, length, _asked_range(asked))
    results, encoded = [], []
    for prediction in [tenant.predictions[identifier] for identifier in ids]:
        seen = gateway.observe(tenant, prediction)
        shown = gateway.render(tenant, seen, context.request.origin, context.urls)
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
                fault = Violation(f"?{name}", "format", name, said, shorten(given), "such as 2025-01-01T00:00:00Z")
                raise validation_error([fault]) from reason
            first, last = (instant, last) if name == "created_after" else (first, instant)
    return range(first, last)


async def stream(context: Context) -> Response:
    """A prediction's life as server-sent events; whoever has the URL may follow it."""
    identifier = context.request.path_params["prediction_id"]
    owner = context.gateway.store.owner(identifier)
    if owner is None:
        raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
    prediction = context.gateway.find(owner, identifier)
    last_id = context.request.header(b"last-event-id")
    events = follow(context.gateway, owner, prediction, context.request.origin, last_id, context.scenario.stream)
    headers = ((b"cache-control", b"no-store"),)
    kind = "text/event-stream; charset=utf-8"
    return Response(context.operation.success, b"", kind, headers, prediction_id=identifier, events=events)


async def model(context: Context) -> Response:
    """What is known of a model."""
    return _json(context, describe_model(context.gateway.contract, _model_in_path(context)))


async def list_versions(context: Context) -> Response:
    """The versions of a model, of which there is one."""
    found = describe_version(context.gateway.contract, _model_in_path(context))
    return _json(context, {"previous": None, "next": None, "results": [found] if found else []})


async def version(context: Context) -> Response:
    """The version of a model."""
    found = describe_version(context.gateway.contract, _model_in_path(context))
    asked = context.request.path_params["version_id"]
    if found is None or found["id"] != asked:
        raise ApiError(404, hint=f"The model has no version {shorten(asked)}.")
    return _json(context, found)


def _model_in_path(context: Context) -> Operation:
    """The create of the model that a path names. Raises ApiError (404)."""
    known, asked = context.gateway.contract.models, context.request.path_params
    operation = known.get(f"{asked['model_owner']}/{asked['model_name']}")
    if operation is None:
        raise ApiError(404, hint=f"The contract's models are {', '.join(known)}.")
    return operation


async def upload(context: Context) -> Response:
    """Store a file."""
    body = context.request.value
    with context.gateway.store.holding(2 * len(body)):  # as a form, and as what is read from it
        sent = await read_upload(context.request.header(b"content-type") or "", body)
    tenant = context.tenant
    now = tenant.clock.now() // MILLISECOND * MILLISECOND
    file = StoredFile(tenant.next_file_id(), sent, now)
    context.gateway.store.put_file(tenant, file)
    return _json(context, file.as_json(_file_url(context, file)), committed=True)


async def list_files(context: Context) -> Response:
    """The files, newest first."""
    now = context.tenant.clock.now()
    files = [file for file in reversed(context.tenant.files.values()) if not file.expired(now)]
    results = [file.as_json(_file_url(context, file)) for file in files]
    return _json(context, {"previous": None, "next": None, "results": results})


async def get_file(context: Context) -> Response:
    """What is known of a file."""
    file = context.gateway.find_file(context.tenant, context.request.path_params["file_id"])
    return _json(context, file.as_json(_file_url(context, file)))


async def delete_file(context: Context) -> Response:
    """Forget a file."""
    file = context.gateway.find_file(context.tenant, context.request.path_params["file_id"])
    context.tenant.files.remove(file.id)
    return Response(context.operation.success, committed=True)


async def download(context: Context) -> Response:
    """A file's content. Whatever its uploader called it, a browser is to keep it and not to show it."""
    if context.request.token is None and context.tenant.name != ANONYMOUS:
        _check_signature(context)
    file = context.gateway.find_file(context.tenant, context.request.path_params["file_id"])
    headers = ((b"content-disposition", b"attachment"), (b"x-content-type-options", b"nosniff"))
    return Response(context.operation.success, file.content, "application/octet-stream", headers, kept=True)


def _check_signature(context: Context) -> None:
    """Make sure that the URL is signed, and still good. Raises ApiError (404)."""
    owner, expiry, signature = (context.request.query_params.get(name, "") for name in ("owner", "expiry", "signature"))
    file_id = context.request.path_params["file_id"]
    right = signature_of(secret_of(context.tenant), owner, file_id, expiry)
    if not compare_digest(signature.encode(), right.encode()):
        raise ApiError(404, hint="Send the token of whoever uploaded it, or a URL with a valid signature.")
    if context.tenant.clock.now() >= int(expiry) * SECOND:
        raise ApiError(404, hint="The URL's expiry is over.")


def _file_url(context: Context, file: StoredFile) -> str:
    (reader,) = context.gateway.contract.of_role("get-file")
    return context.request.origin + reader.path.replace("{file_id}", file.id)


def _json(context: Context, value: object, *, committed: bool = False) -> Response:
    return Response(context.operation.success, msgspec.json.encode(value), JSON, value=value, committed=committed)


async def picture(context: Context) -> Response:
    """A picture, whole or in part."""
    prediction = context.gateway.deliverable(
        context.request.path_params["prediction_id"], context.request.path_params["output_format"]
    )
    picture = await asyncio.to_thread(context.gateway.pictures.draw, prediction)
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"etag", picture.etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"public, max-age=3600"),
    )
    wanted = context.request.header(b"if-none-match")
    if wanted is not None and (wanted == "*" or picture.etag in [tag.strip() for tag in wanted.split(",")]):
        return Response(304, headers=headers, prediction_id=prediction.id)
    part = _part(context, picture)
    if part is None:
        return Response(200, picture.data, picture.media_type, headers, prediction_id=prediction.id, kept=True)
    first, last = part
    where = f"bytes {first}-{last}/{len(picture.data)}".encode()
    data = picture.data[first : last + 1]
    headers = (*headers, (b"content-range", where))
    return Response(206, data, picture.media_type, headers, prediction_id=prediction.id)


async def view(context: Context) -> Response:
    """A page for people. Looking at it moves nothing."""
    gateway = context.gateway
    identifier = context.request.path_params["prediction_id"]
    tenant = gateway.store.owner(identifier)
    if tenant is None:
        raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
    prediction = gateway.find(tenant, identifier)
    life = life_of(gateway, tenant, prediction, context.request.origin, context.urls)
    asked = (exchange for exchange in tenant.journal if exchange.operation_id != context.operation.operation_id)
    page = page_of(life, asked, tenant.deliveries, tenant.clock.mode, tenant.secret).encode()
    pictures = gateway.files_origin or "'self'"
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'".encode()
    headers = ((b"content-security-policy", policy), (b"x-content-type-options", b"nosniff"))
    return Response(context.operation.success, page, "text/html; charset=utf-8", headers, prediction_id=prediction.id)


async def example(context: Context) -> Response:
    """The contract's example, for an operation without a role."""
    found = context.gateway.contract.example(context.operation)
    assert found is not None  # the contract was refused otherwise
    status, media_type, value = found
    body = msgspec.json.encode(value) if "json" in media_type else str(value or "").encode()
    return Response(status, body, media_type, value=value if "json" in media_type else None)


# By x-mock-role; None is for operations without one.
HANDLERS: dict[str | None, Handler] = {None: example, **{role.name: globals()[role.handler] for role in ROLES.values()}}


def _prediction_response(
    context: Context, prediction: Prediction, status: int, age: int | None = None, *, unrecorded_end: bool = False
) -> Response:
    """The answer that tells a client of a prediction, as it is now or was at an age of its own, in nanoseconds.

    With `unrecorded_end` one that has succeeded is shown as running still, with its output.
    """
    gateway, tenant = context.gateway, context.tenant
    creating = context.operation.role == "create"  # its answer has everything, however soon the data expire
    value = gateway.render(tenant, prediction, context.request.origin, context.urls, age=age, include_expired=creating)
    if unrecorded_end:
        value = _without_its_end(value, gateway.output_url(prediction, context.request.origin))
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


def _part(context: Context, picture: Picture) -> tuple[int, int] | None:
    """First and last byte asked for by a Range header (RFC 9110, 14.2); None for the whole."""
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", context.request.header(b"range") or "")
    if_range = context.request.header(b"if-range") or picture.etag
    if asked is None or asked.groups() == ("", "") or if_range != picture.etag or context.operation.method == "HEAD":
        return None
    size = len(picture.data)
    start, end = asked.groups()
    first, last = (int(start), min(int(end or size), size - 1)) if start else (max(0, size - int(end)), size - 1)
    if end and start and int(end) < first:
        return None
    if first > last:
        raise ApiError(416, headers={"Content-Range": f"bytes */{size}"})
    return first, last
