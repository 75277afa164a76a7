"""The proxy, which forwards requests to the gateway, and judges both sides by the contract.

Read `ProxyApp` from `_pass_on` downwards. A departure never changes what the client receives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from starlette.routing import compile_path

from mockserver.backend.backend import Options
from mockserver.backend.journal import (
    ANONYMOUS,
    MAX_RECORDED_BODY,
    Departure,
    Exchange,
    RecordedResponse,
)
from mockserver.backend.memory import Bounded
from mockserver.backend.metrics import UNMATCHED
from mockserver.backend.tenant import TenantState
from mockserver.client import PREFIX
from mockserver.clock import SECOND, wall_time
from mockserver.conformance.creates import CreatePaths
from mockserver.conformance.exchange import BodyReader, GatewayExchange
from mockserver.conformance.forwarding import (
    Forwarder,
    GatewayError,
    Headers,
    Reply,
    UnforwardableResponse,
    passed_on,
)
from mockserver.conformance.gateway import Gateway
from mockserver.conformance.judge import judge
from mockserver.conformance.life import Life
from mockserver.conformance.picture import judge_picture
from mockserver.contract.api_error import ApiError, error_body
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.http.channel import CLOSE, NO_RESPONSE, Receive, Response, Scope, Send
from mockserver.http.errors import unmatched
from mockserver.http.recording import nearest, recorded_request
from mockserver.http.request import ReceivedRequest, read_head
from mockserver.http.validation import VALID, ValidatedRequest, validate
from mockserver.reporting.terminal import print_error
from mockserver.scenarios.catalogue import Catalogue
from mockserver.server.app import App

MAX_HELD = (
    1024 * 1024
)  # bytes of a JSON body that are held until it has been judged; a longer one is not judged
MAX_PICTURE_HEAD = 256 * 1024  # bytes of a picture that are looked at
MAX_LIVES = 10_000  # predictions that are remembered
MAX_URL = 2000  # characters
LIFE = 2000  # bytes that one holds beside its input, about

_PREDICTIONS = frozenset({"create", "get", "cancel"})


@dataclass(frozen=True)
class ProxyOptions:
    """How a proxy behaves: `strict` refuses what the contract forbids before it costs anything."""

    strict: bool = False
    max_creates: int | None = None
    rewrite_urls: bool = False
    admin_token: str | None = None
    public_url: str | None = None


def proxy_app(
    url: str,
    *,
    contract: Path | Contract | None = None,
    gateway_ca: Path | None = None,
    insecure: bool = False,
    **options: Any,
) -> ProxyApp:
    """A proxy of the gateway at a URL. `options` are ProxyOptions. Raises MockServerError."""
    loaded = contract if isinstance(contract, Contract) else Contract.load(contract)
    gateway = Gateway(url, insecure=insecure, ca_file=gateway_ca)
    gateway.tls()
    return ProxyApp(loaded, Forwarder(gateway), ProxyOptions(**options))


@dataclass
class ProxyExchange:
    """One exchange in progress: the request with the held part of its body, and the response."""

    request: ReceivedRequest
    operation: Operation | None
    others: Mapping[str, Operation]  # the operations of the path, by method
    tenant: TenantState
    raw_path: bytes
    target: bytes
    number: int
    body: bytes = b""
    more: bool = False
    validated: ValidatedRequest = VALID
    counted: bool = False  # among the creates
    ours: bool = False  # answered here, in the gateway's place
    status: int = NO_RESPONSE
    headers: Headers = ()
    unforwardable: Departure | None = None  # why the gateway's response could not be sent on
    prediction: dict[str, Any] | None = field(default=None, repr=False)


class ProxyApp(App):
    """The ASGI application of a proxy, which has its own admin API and forwards the rest."""

    def __init__(self, contract: Contract, forwarder: Forwarder, options: ProxyOptions) -> None:
        settings = Options(
            strict=options.strict, admin_token=options.admin_token, public_url=options.public_url
        )
        super().__init__(contract, Catalogue(contract), settings)
        self._contract = contract
        self._forwarder = forwarder
        self._options = options
        self._operations = [
            (compile_path(path)[0], {operation.method: operation for operation in operations})
            for path, operations in contract.paths.items()
        ]
        self._creates = CreatePaths(contract.operations)
        self._lives: Bounded[str, Life] = Bounded(
            _footprint, max_items=MAX_LIVES, max_bytes=16 * 1024 * 1024
        )
        self._elsewhere: Bounded[str, str] = Bounded(
            len, max_items=MAX_LIVES
        )  # where urls led, by our own paths
        self.creates = 0  # passed on and not refused
        self.watch: list[Callable[[GatewayExchange], None]] = []  # each is told of every exchange

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        path = scope["path"]
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            return super().__call__(scope, receive, send)
        return self._pass_on(scope, receive, send)

    @property
    def gateway(self) -> Gateway:
        """The gateway."""
        return self._forwarder.gateway

    async def close(self) -> None:
        """Close the connections to the gateway."""
        await self._forwarder.close()

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        operations, scope["path_params"] = self._operations_at(scope["path"])
        operation = operations.get(scope["method"])
        request = read_head(scope, receive, send, self._options.public_url)
        tenant = self.backend.store.tenant(request.token or ANONYMOUS)
        query = scope["query_string"]
        raw_path = scope.get("raw_path", scope["path"].encode())
        exchanged = ProxyExchange(
            request=request,
            operation=operation,
            others=operations,
            tenant=tenant,
            raw_path=raw_path,
            target=raw_path + (b"?" + query if query else b""),
            number=tenant.journal.next_number(),
        )
        if not await self._read_ahead(exchanged):
            return  # the client hung up before it had said what it wants
        refusal = self._judge_request(exchanged) or self._count_create(exchanged)
        if refusal is not None:
            await self._respond_locally(exchanged, refusal)
            return
        await request.channel.cancel_on_disconnect(self._exchange(exchanged, send))
        if exchanged.status == NO_RESPONSE:
            self._record(
                exchanged, BodyReader("")
            )  # the client left, and what it asked for is no longer waited for

    def _operations_at(self, path: str) -> tuple[Mapping[str, Operation], dict[str, str]]:
        """The contract's operations at a path, by method, and the path's parameters."""
        for pattern, operations in self._operations:
            if match := pattern.match(path):
                return operations, match.groupdict()
        return {}, {}

    async def _read_ahead(self, exchanged: ProxyExchange) -> bool:
        """Read the judged part of the body: JSON up to a limit, of others the first piece."""
        request, operation = exchanged.request, exchanged.operation
        whole = (
            operation is not None
            and operation.body is not None
            and any("json" in kind for kind in operation.body)
        )
        limit = MAX_HELD if whole else MAX_RECORDED_BODY
        if whole and self._options.strict and operation is not None:
            limit = operation.max_body + 1
        chunks: list[bytes] = []
        size, more = 0, True
        while more and size < limit:
            message = await request.channel.receive()
            if message["type"] == "http.disconnect":
                return False
            chunk, more = message.get("body", b""), message.get("more_body", False)
            chunks.append(chunk)
            size += len(chunk)
        exchanged.body, exchanged.more = b"".join(chunks), more
        request.body.content = exchanged.body
        request.body.size = (
            size if not more else max(size, int(request.headers.get(b"content-length") or 0))
        )
        return True

    def _judge_request(self, exchanged: ProxyExchange) -> ApiError | None:
        """Hold a request against the contract; the refusal, if it is to be refused here."""
        operation, request = exchanged.operation, exchanged.request
        if operation is None:
            if not self._options.strict:
                return None
            return unmatched(self._contract, exchanged.others, request)
        held_back = (
            exchanged.more
            and operation.body is not None
            and any("json" in kind for kind in operation.body)
        )
        if held_back and not self._options.strict:
            return None  # too long to be held
        exchanged.validated = validate(self.backend, operation, request)
        return exchanged.validated.refusal if self._options.strict else None

    def _count_create(self, exchanged: ProxyExchange) -> ApiError | None:
        """Count a create, or refuse it if the limit is reached."""
        if not self._creates.may_create(exchanged.request.method, exchanged.raw_path):
            return None
        limit = self._options.max_creates
        if limit is not None and self.creates >= limit:
            message = (
                f"mockserver proxy has passed on {limit} creates, which is all that "
                "--max-creates allows."
            )
            return ApiError(402, message)
        self.creates += 1
        exchanged.counted = True
        return None

    async def _respond_locally(self, exchanged: ProxyExchange, refusal: ApiError) -> None:
        """Answer in the gateway's place, in the API's own shape of an error."""
        media_type, template = self._contract.error_template(
            exchanged.operation, refusal.status, "replicate"
        )
        value = error_body(template, "replicate", refusal)
        headers: tuple[tuple[bytes, bytes], ...] = ((b"x-mockserver-proxy", b"answered here"),)
        if exchanged.more:
            headers = (*headers, CLOSE)  # what is still to come of the body is not read
        response = Response(refusal.status, msgspec.json.encode(value), media_type, headers)
        exchanged.status, exchanged.headers, exchanged.ours = (
            response.status,
            response.raw_headers(),
            True,
        )
        reader = BodyReader("")
        reader.feed(response.body)
        self._record(exchanged, reader)
        body = b"" if exchanged.request.method == "HEAD" else response.body
        await exchanged.request.channel.send_response(response, body)

    async def _exchange(self, exchanged: ProxyExchange, send: Send) -> None:
        """Pass a request on, and its answer back."""
        request = exchanged.request
        try:
            reply = await self._send(exchanged)
        except GatewayError as reason:
            self._tell_watchers(exchanged)
            if isinstance(reason, UnforwardableResponse):
                exchanged.unforwardable = _departure_of(exchanged, reason)
            await self._respond_locally(exchanged, ApiError(reason.status, str(reason)))
            return
        try:
            self._settle_create(exchanged, reply.status)
            exchanged.headers = reply.headers
            reader = BodyReader(reply.header(b"content-encoding").strip().lower(), _held_of(reply))
            await self._return(exchanged, reply, reader, send)
        except GatewayError as reason:
            print_error(str(reason))
            await request.channel.break_off()
        finally:
            await reply.close()

    def _tell_watchers(self, exchanged: ProxyExchange) -> None:
        """Tell that a request was not answered."""
        request, operation = exchanged.request, exchanged.operation
        if operation is not None:
            seen = GatewayExchange(
                operation=operation,
                method=request.method,
                path=request.path,
                token=request.token or "",
            )
            for watcher in self.watch:
                watcher(seen)

    async def _send(self, exchanged: ProxyExchange) -> Reply:
        request = exchanged.request
        headers = passed_on(request.raw_headers)
        elsewhere = self._elsewhere.get(request.path)
        if elsewhere is not None and request.method == "GET":
            return await self._forwarder.fetch(elsewhere, headers)
        body = _rest(exchanged) if exchanged.more else exchanged.body
        return await self._forwarder.send(request.method, exchanged.target, headers, body)

    def _settle_create(self, exchanged: ProxyExchange, status: int) -> None:
        """A create that was refused is not billed; one that failed otherwise may be."""
        if exchanged.counted and 300 <= status < 500:
            self.creates -= 1

    async def _return(
        self, exchanged: ProxyExchange, reply: Reply, reader: BodyReader, send: Send
    ) -> None:
        """Pass an answer back as it comes.

        Short JSON is held until it is in the journal, so that a client that has the response finds
        it there.
        """
        exchanged.status = reply.status
        held: list[bytes] | None = [] if "json" in reply.header(b"content-type") else None
        headers: Headers = _to_client(reply.headers)
        done = False
        try:
            if held is None:
                await send(
                    {"type": "http.response.start", "status": reply.status, "headers": headers}
                )
            async for piece in reply.chunks:
                reader.feed(piece)
                if held is not None:
                    held.append(piece)
                    if reader.size <= MAX_HELD:
                        continue
                    await send(
                        {"type": "http.response.start", "status": reply.status, "headers": headers}
                    )
                    piece, held = b"".join(held), None
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            done = True
        finally:
            reader.whole = (
                reader.whole and done
            )  # what broke off says nothing of what it would have been
            self._record(exchanged, reader)
        if held is None:
            await send({"type": "http.response.body", "body": b""})
            return
        headers, body = self._rewrite_urls(exchanged, headers, b"".join(held))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send(
            {
                "type": "http.response.body",
                "body": b"" if exchanged.request.method == "HEAD" else body,
            }
        )

    def _rewrite_urls(
        self, exchanged: ProxyExchange, headers: Headers, body: bytes
    ) -> tuple[Headers, bytes]:
        """An answer whose urls lead back here, if that is wanted and it has any."""
        if not self._options.rewrite_urls or exchanged.prediction is None:
            return headers, body
        rewritten = self._rewritten(exchanged, exchanged.prediction)
        if rewritten is None:
            return headers, body
        kept = [
            (name, value)
            for name, value in headers
            if name not in (b"content-encoding", b"content-length")
        ]
        return [*kept, (b"content-length", b"%d" % len(rewritten))], rewritten

    def _rewritten(self, exchanged: ProxyExchange, prediction: Mapping[str, Any]) -> bytes | None:
        """A prediction whose urls lead back here; None if it has none."""
        urls = prediction.get("urls")
        if not isinstance(urls, dict):
            return None
        here = exchanged.request.base_url
        led = dict(urls)
        for name, url in urls.items():
            rule = self._contract.url_rules.get(name)
            if rule is None or not isinstance(url, str):
                continue
            path = rule.path.replace("{prediction_id}", str(prediction.get("id")))
            leads_home = url.startswith(self.gateway.url + "/")
            if leads_home:
                path = url.removeprefix(self.gateway.url)
            elif name not in ("get", "cancel"):
                if len(url) > MAX_URL:
                    continue
                if path in self._elsewhere:
                    self._elsewhere.remove(path)
                self._elsewhere.put(path, url)
            led[name] = here + path
        return msgspec.json.encode({**prediction, "urls": led})

    def _record(self, exchanged: ProxyExchange, reader: BodyReader) -> None:
        """Judge and record an exchange. The client gets its response even if that fails."""
        departures: Sequence[Departure] = ()
        try:
            departures = self._judge(exchanged, reader)
        except Exception as reason:  # a gateway can send anything
            print_error(f"an answer could not be judged: {reason!r:.300}")
        request, tenant, operation = exchanged.request, exchanged.tenant, exchanged.operation
        prediction = exchanged.prediction or {}
        told = prediction.get("status")
        identifier = prediction.get("id") or request.path_params.get("prediction_id")
        if operation is not None:
            tenant.coverage.record_exchange(operation.operation_id, exchanged.status)
        took = wall_time() - request.received_at
        if not exchanged.ours:
            name = UNMATCHED if operation is None else operation.operation_id
            self.backend.metrics.record(name, exchanged.status, took / SECOND)
        media_type = next(
            (v.decode("latin-1") for n, v in exchanged.headers if n == b"content-type"), ""
        )
        self.backend.store.record(
            tenant,
            Exchange(
                number=exchanged.number,
                tenant_time=tenant.clock.now(),
                operation_id=None if operation is None else operation.operation_id,
                arrived_at="api",
                scenario="",
                request=recorded_request(request, tenant),
                response=RecordedResponse(
                    status=exchanged.status,
                    content_type=media_type,
                    headers=tuple(
                        each
                        for each in exchanged.headers
                        if each[0] not in (b"content-type", b"content-length")
                    ),
                    body=reader.body[:MAX_RECORDED_BODY]
                    if "json" in media_type or "text" in media_type
                    else b"",
                    body_size=len(reader.body) if reader.whole else reader.size,
                    took=took,
                ),
                violations=exchanged.validated.violations,
                prediction_id=None if identifier is None else str(identifier)[:100],
                prediction_status=None if told is None else str(told)[:40],
                committed=operation is not None
                and operation.commits
                and 200 <= exchanged.status < 300,
                nearest="" if operation is not None else nearest(self.backend, request),
                departures=departures,
            ),
        )

    def _judge(self, exchanged: ProxyExchange, reader: BodyReader) -> list[Departure]:
        request, operation = exchanged.request, exchanged.operation
        if exchanged.unforwardable is not None:
            return [exchanged.unforwardable]
        if operation is None or exchanged.status == NO_RESPONSE or exchanged.ours:
            return []
        seen = GatewayExchange(
            operation=operation,
            method=request.method,
            path=request.path,
            token=request.token or "",
            sent=_sent(exchanged),
            sent_headers={"prefer": request.header(b"prefer") or ""},
            must_refuse=exchanged.validated.refusal is not None,
            status=exchanged.status,
            headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in exchanged.headers
            ],
            body=reader.body,
            size=reader.size,
            whole=reader.whole,
            unreadable=reader.unreadable,
            at=request.received_at,
            seconds=(wall_time() - request.received_at) / SECOND,
        )
        for watcher in self.watch:
            watcher(seen)
        found = judge(self._contract, seen, self.gateway.origin)
        exchanged.prediction = seen.prediction() if operation.role in _PREDICTIONS else None
        if exchanged.prediction is not None and isinstance(exchanged.prediction.get("id"), str):
            found += self._follow(exchanged, seen, exchanged.prediction)
        if operation.role == "deliver" and request.method == "GET" and exchanged.status == 200:
            life = self._lives.get(request.path_params.get("prediction_id", ""))
            creating = self._contract.models.get(str(life.model)) if life is not None else None
            if life is not None and creating is not None and life.picture_input is not None:
                found += judge_picture(seen, creating, life.picture_input)
        return found

    def _follow(
        self, exchanged: ProxyExchange, seen: GatewayExchange, prediction: Mapping[str, Any]
    ) -> list[Departure]:
        """Add the prediction in a response to what is known of its lifecycle."""
        coverage = exchanged.tenant.coverage
        identifier = str(exchanged.request.path_params.get("prediction_id") or prediction["id"])[
            :100
        ]
        life = self._lives.get(identifier)
        if life is None:
            life = Life(identifier)
        else:
            self._lives.remove(identifier)
        before = life.status or None
        departures = life.take(seen, prediction)
        coverage.status_sent(before, life.status)

        inputs = seen.sent.get("input") if isinstance(seen.sent, dict) else None
        creating = (
            self._contract.model_asked(seen.operation, seen.sent)
            if seen.operation.role == "create"
            else None
        )
        if creating is not None and isinstance(inputs, dict):
            coverage.record_input(creating.operation_id, creating.known.intersection(inputs))
            visible = (creating.picture["ratio"], creating.picture["format"])
            life.picture_input = {name: inputs[name] for name in visible if name in inputs}
        self._lives.put(identifier, life)
        return departures


def _departure_of(exchanged: ProxyExchange, reason: UnforwardableResponse) -> Departure:
    """The departure of a response that cannot be sent on, also outside the contract."""
    operation = exchanged.operation
    name = UNMATCHED if operation is None else operation.operation_id
    return Departure("MC701", "error", name, "", str(reason), "")


def _sent(exchanged: ProxyExchange) -> Any:
    """The decoded body of a request, if all of it is held and it is JSON."""
    media_type = exchanged.request.header(b"content-type") or ""
    if exchanged.more or "json" not in media_type or not exchanged.body:
        return None
    try:
        return exchanged.request.body.json()
    except ValueError:
        return None


async def _rest(exchanged: ProxyExchange) -> AsyncIterator[bytes]:
    """A body that is not held: what has been read of it, and then the rest as it comes."""
    yield exchanged.body
    more = True
    while more:
        message = await exchanged.request.channel.receive()
        if message["type"] == "http.disconnect":
            raise GatewayError(502, "the client left")
        more = message.get("more_body", False)
        yield message.get("body", b"")


def _held_of(reply: Reply) -> int:
    """How much of a body is looked at."""
    kind = reply.header(b"content-type").lower()
    if kind.startswith("image/"):
        return MAX_PICTURE_HEAD
    return MAX_HELD if "json" in kind else MAX_RECORDED_BODY


def _to_client(headers: Headers) -> list[tuple[bytes, bytes]]:
    """A gateway's headers as the client gets them; the server beneath adds the date."""
    return [(name, value) for name, value in headers if name != b"date"]


def _footprint(life: Life) -> int:
    return LIFE + life.input_size
