"""What the double does for each x-mock-role: thin handlers from a request to an answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from html import escape
from typing import Any

import msgspec

from mockserver.clock import MILLISECOND, SECOND
from mockserver.contract import Operation
from mockserver.errors import Refusal
from mockserver.files import StoredFile, read_upload
from mockserver.gateway import Gateway
from mockserver.lifecycle import TERMINAL
from mockserver.pictures import Picture
from mockserver.predictions import Prediction, effective_timeline
from mockserver.request import Request
from mockserver.scenarios import USUAL_BODY, Scenario, Urls
from mockserver.store import TenantState
from mockserver.stream import follow
from mockserver.violations import shorten
from mockserver.webhooks import deliver as deliver_webhooks
from mockserver.webhooks import secret_of
from mockserver.wire import NO_ANSWER, Answer, unless_left

JSON = "application/json"
MOST_WAIT = 60  # seconds; what `Prefer: wait` without a number stands for


class Call(msgspec.Struct, frozen=True):
    """A request that the contract allows, ready to be handled.

    `chosen` is the scenario if the request itself asked for it; `heard` tells whether the answer is to arrive whole.
    """

    gateway: Gateway
    tenant: TenantState
    operation: Operation
    scenario: Scenario
    chosen: Scenario | None
    request: Request
    heard: bool = True

    @property
    def urls(self) -> Urls:
        """Where the URLs in predictions are to point."""
        return self.scenario.urls or self.gateway.options.urls


Handler = Callable[[Call], Awaitable[Answer]]


async def create(call: Call) -> Answer:
    """Create a prediction."""
    headers, body = call.request.head.headers, call.request.value
    deadline = _duration(headers["cancel-after"]) if "cancel-after" in headers else None
    prediction = call.gateway.create(call.tenant, call.operation, body["input"], call.scenario, call.chosen, deadline)
    if body.get("webhook"):
        call.tenant.undertake(prediction.id, _webhooks(call, prediction))
    status = call.scenario.create_status
    if status is None or status not in call.operation.answers:
        status = call.operation.success
    preference = headers.get("prefer", "")
    if not preference.startswith("wait"):
        return _told(call, prediction, status, age=0)
    answer = await _wait(call, prediction, status, int(preference.partition("=")[2] or MOST_WAIT))
    return msgspec.structs.replace(answer, headers=((b"preference-applied", preference.encode()),))


def _webhooks(call: Call, prediction: Prediction) -> Coroutine[Any, Any, None]:
    """The work of telling a receiver of a prediction's life."""
    wanted = call.request.value.get("webhook_events_filter")
    faults = call.scenario.webhooks
    url = call.request.value["webhook"]
    return deliver_webhooks(
        call.gateway, call.tenant, prediction, url, wanted, call.request.head.origin, call.urls, faults
    )


async def webhook_secret(call: Call) -> Answer:
    """The key that the tenant's webhooks are signed with."""
    return _json(call, {"key": secret_of(call.tenant)})


def _duration(given: str) -> int | None:
    """Nanoseconds until a prediction is to be given up, as `Cancel-After` says; the contract has checked its form."""
    asked = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", given)
    if asked is None or not asked.group():
        return None
    hours, minutes, seconds = (int(part or 0) for part in asked.groups())
    return (hours * 3600 + minutes * 60 + seconds) * SECOND


async def _wait(call: Call, prediction: Prediction, status: int, seconds: int) -> Answer:
    """The answer to a create whose client waits for the end, for some seconds of the prediction's time."""
    gateway, tenant = call.gateway, call.tenant
    born = prediction.age(tenant.clock.elapsed())
    followed = await unless_left(call.request.receive, gateway.follow(tenant, prediction, seconds * SECOND))
    if followed is None:
        return Answer(NO_ANSWER, prediction_id=prediction.id, committed=True)
    prediction = followed
    ended = gateway.status(tenant, prediction) in TERMINAL
    if call.scenario.wait == "processing":
        return _told_processing(call, prediction, status, ended=ended)
    # Time is up: upstream shows it as it was created, whatever it has become; its own clients poll only then.
    return _told(call, prediction, status, None if ended else born)


def _told_processing(call: Call, prediction: Prediction, status: int, *, ended: bool) -> Answer:
    """The recorded oddity: `processing` at the end of a wait, with the output if it has succeeded by then."""
    at = next((stage.at for stage in effective_timeline(prediction) if stage.status == "processing"), None)
    answer = _told(call, prediction, status, at)
    if at is None or not ended or call.gateway.status(call.tenant, prediction) != "succeeded":
        return answer
    value = {**answer.value, "output": call.gateway.output_url(prediction, call.request.head.origin)}
    return msgspec.structs.replace(answer, value=value, body=msgspec.json.encode(value))


async def get(call: Call) -> Answer:
    """Read a prediction, which under autojump moves it on."""
    prediction = call.gateway.find(call.tenant, call.request.path_params["prediction_id"])
    return _told(call, call.gateway.look(call.tenant, prediction), call.operation.success)


async def cancel(call: Call) -> Answer:
    """Cancel a prediction."""
    prediction = call.gateway.find(call.tenant, call.request.path_params["prediction_id"])
    return _told(call, call.gateway.cancel(call.tenant, prediction), call.operation.success)


async def list_page(call: Call) -> Answer:
    """One page of predictions, newest first. A list is a look at each of them."""
    gateway, tenant = call.gateway, call.tenant
    length = call.operation.document.get("x-mock-page", 100)
    ids, previous, following = gateway.page(tenant, call.request.query_params.get("cursor"), length)
    results = []
    for identifier in ids:
        prediction = gateway.look(tenant, tenant.predictions[identifier])
        shown = gateway.represent(tenant, prediction, call.request.head.origin, call.urls)
        if call.heard:
            gateway.tell(tenant, prediction, shown["status"])
        results.append(shown)
    here = call.request.head.origin + call.operation.path
    value = {
        "previous": f"{here}?cursor={previous}" if previous else None,
        "next": f"{here}?cursor={following}" if following else None,
        "results": results,
    }
    return _json(call, value)


async def stream(call: Call) -> Answer:
    """A prediction's life as server-sent events; whoever has the URL may follow it."""
    identifier = call.request.path_params["prediction_id"]
    owner = call.gateway.store.owner(identifier)
    if owner is None:
        raise Refusal(404, hint=f"There is no prediction {shorten(identifier)}.")
    prediction = call.gateway.find(owner, identifier)
    last_id = call.request.head.headers.get("last-event-id")
    events = follow(call.gateway, owner, prediction, call.request.head.origin, last_id, call.scenario.stream)
    headers = ((b"cache-control", b"no-store"),)
    kind = "text/event-stream; charset=utf-8"
    return Answer(call.operation.success, b"", kind, headers, prediction_id=identifier, events=events)


async def model(call: Call) -> Answer:
    """What is known of a model: that it is one of the contract's."""
    owner, name = call.request.path_params["model_owner"], call.request.path_params["model_name"]
    known = {operation.model: operation for operation in call.gateway.contract.of_role("create")}
    operation = known.get(f"{owner}/{name}")
    if operation is None:
        raise Refusal(404, hint=f"The contract's models are {', '.join(map(str, known))}.")
    found = call.gateway.contract.example(call.operation)
    shown: dict[str, Any] = dict(found[2]) if found else {}
    url = str(shown.get("url", "")).replace(f"{shown.get('owner')}/{shown.get('name')}", f"{owner}/{name}")
    return _json(
        call, {**shown, "url": url, "owner": owner, "name": name, "description": operation.document.get("summary")}
    )


async def upload(call: Call) -> Answer:
    """Store a file."""
    name, kind, content, metadata = await read_upload(call.request.head.headers, call.request.value)
    tenant = call.tenant
    now = tenant.clock.now() // MILLISECOND * MILLISECOND
    file = StoredFile(tenant.next_file_id(), name, kind, content, metadata, now)
    call.gateway.store.put_file(tenant, file)
    return _json(call, file.as_json(_file_url(call, file)), committed=True)


async def list_files(call: Call) -> Answer:
    """The files, newest first."""
    now = call.tenant.clock.now()
    files = [file for file in reversed(call.tenant.files.values()) if not file.expired(now)]
    results = [file.as_json(_file_url(call, file)) for file in files]
    return _json(call, {"previous": None, "next": None, "results": results})


async def get_file(call: Call) -> Answer:
    """What is known of a file."""
    file = call.gateway.find_file(call.tenant, call.request.path_params["file_id"])
    return _json(call, file.as_json(_file_url(call, file)))


async def delete_file(call: Call) -> Answer:
    """Forget a file."""
    file = call.gateway.find_file(call.tenant, call.request.path_params["file_id"])
    call.gateway.store.drop_file(call.tenant, file.id)
    return Answer(call.operation.success, committed=True)


async def download(call: Call) -> Answer:
    """A file's content. Whatever its uploader called it, a browser is to keep it and not to show it."""
    file = call.gateway.find_file(call.tenant, call.request.path_params["file_id"])
    headers = ((b"content-disposition", b"attachment"), (b"x-content-type-options", b"nosniff"))
    return Answer(call.operation.success, file.content, "application/octet-stream", headers)


def _file_url(call: Call, file: StoredFile) -> str:
    (reader,) = call.gateway.contract.of_role("get-file")
    return call.request.head.origin + reader.path.replace("{file_id}", file.id)


def _json(call: Call, value: object, *, committed: bool = False) -> Answer:
    return Answer(call.operation.success, msgspec.json.encode(value), JSON, value=value, committed=committed)


async def deliver(call: Call) -> Answer:
    """A picture, whole or in part."""
    prediction = call.gateway.deliverable(
        call.request.path_params["prediction_id"], call.request.path_params["output_format"]
    )
    picture = await asyncio.to_thread(call.gateway.pictures.draw, prediction)
    headers: tuple[tuple[bytes, bytes], ...] = (
        (b"etag", picture.etag.encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"public, max-age=3600"),
    )
    wanted = call.request.head.headers.get("if-none-match")
    if wanted is not None and (wanted == "*" or picture.etag in re.split(r"\s*,\s*", wanted)):
        return Answer(304, headers=headers, prediction_id=prediction.id)
    part = _part(call, picture)
    if part is None:
        return Answer(200, picture.data, picture.media_type, headers, prediction_id=prediction.id)
    first, last = part
    where = f"bytes {first}-{last}/{len(picture.data)}".encode()
    data = picture.data[first : last + 1]
    headers = (*headers, (b"content-range", where))
    return Answer(206, data, picture.media_type, headers, prediction_id=prediction.id)


async def view(call: Call) -> Answer:
    """A page for people. Looking at it moves nothing."""
    gateway = call.gateway
    tenant = gateway.store.owner(call.request.path_params["prediction_id"])
    if tenant is None:
        raise Refusal(404)
    prediction = gateway.find(tenant, call.request.path_params["prediction_id"])
    shown = gateway.represent(tenant, prediction, call.request.head.origin, call.urls)
    page = _page(shown).encode()
    pictures = gateway.files_origin or "'self'"
    policy = f"default-src 'none'; img-src {pictures}; style-src 'unsafe-inline'".encode()
    headers = ((b"content-security-policy", policy), (b"x-content-type-options", b"nosniff"))
    return Answer(call.operation.success, page, "text/html; charset=utf-8", headers, prediction_id=prediction.id)


async def example(call: Call) -> Answer:
    """The contract's example, for an operation without a role."""
    found = call.gateway.contract.example(call.operation)
    assert found is not None  # the contract was refused otherwise
    status, media_type, value = found
    body = msgspec.json.encode(value) if "json" in media_type else str(value or "").encode()
    return Answer(status, body, media_type, value=value if "json" in media_type else None)


ROLES: dict[str | None, Handler] = {
    "create": create,
    "get": get,
    "cancel": cancel,
    "list": list_page,
    "stream": stream,
    "model": model,
    "upload": upload,
    "list-files": list_files,
    "get-file": get_file,
    "delete-file": delete_file,
    "download": download,
    "webhook-secret": webhook_secret,
    "deliver": deliver,
    "view": view,
    None: example,
}


# Roles whose requests are answered without waiting for anything, unless they say "Prefer: wait".
AT_ONCE = frozenset({"create", "get", "cancel"})


def _told(call: Call, prediction: Prediction, status: int, age: int | None = None) -> Answer:
    """The answer that tells a client of a prediction, as it is now or was at an age of its own, in nanoseconds."""
    gateway, tenant = call.gateway, call.tenant
    creating = call.operation.role == "create"  # its answer has everything, however soon the data expire
    value = gateway.represent(tenant, prediction, call.request.head.origin, call.urls, age=age, whole=creating)
    if call.heard:
        gateway.tell(tenant, prediction, value["status"])
    if call.scenario.body != USUAL_BODY:
        value = call.scenario.vary(call.operation, status, value)
    return Answer(
        status,
        msgspec.json.encode(value),
        JSON,
        value=value,
        prediction_id=prediction.id,
        prediction_status=value["status"],
        committed=call.operation.method != "GET",
    )


def _part(call: Call, picture: Picture) -> tuple[int, int] | None:
    """First and last byte asked for by a Range header (RFC 9110, 14.2); None for the whole."""
    asked = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", call.request.head.headers.get("range", ""))
    if_range = call.request.head.headers.get("if-range", picture.etag)
    if asked is None or asked.groups() == ("", "") or if_range != picture.etag or call.operation.method == "HEAD":
        return None
    size = len(picture.data)
    start, end = asked.groups()
    first, last = (int(start), min(int(end or size), size - 1)) if start else (max(0, size - int(end)), size - 1)
    if end and start and int(end) < first:
        return None
    if first > last:
        raise Refusal(416, headers={"Content-Range": f"bytes */{size}"})
    return first, last


def _page(shown: Mapping[str, Any]) -> str:
    facts = escape(msgspec.json.format(msgspec.json.encode(shown)).decode())
    picture = f'<img alt="" src="{escape(shown["output"])}">' if shown["output"] else ""
    title = f"{escape(shown['model'])} · {escape(shown['status'])}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "img{max-width:100%;border-radius:8px}pre{white-space:pre-wrap;overflow-wrap:anywhere}</style>"
        f"<h1>{title}</h1>{picture}<pre>{facts}</pre></html>"
    )
