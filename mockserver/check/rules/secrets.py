"""MC5xx: where a client sends its token."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run
from mockserver.check.rules.evidence import meant_for_api
from mockserver.check.rules.rule import Observation, rule
from mockserver.json_text import shorten
from mockserver.reporting.rule import Severity


@rule(
    "MC501",
    "leaks the token",
    rests_on="secrets: URLs, bodies and output are logged, and other hosts belong to others",
    demand=(
        "The client sends the token to the API only: never to the file host or to any other host "
        "that a URL names, and never in a URL, a request body or its own output."
    ),
    example="The session that has the token also downloads the picture from the file host.",
    fix=(
        "Attach the token by host: to API requests only, in the Authorization header only. "
        "Download files with a separate client."
    ),
)
def _leaks_token(run: Run) -> Iterator[Observation]:
    secret = run.token.encode()
    for index, exchange in enumerate(run.exchanges):
        target = exchange.path.encode() + b"?" + exchange.request.query
        headers = b"\n".join(value for _, value in exchange.request.headers)
        if exchange.arrived_at != "api" and secret in headers:
            there = "the file host" if exchange.arrived_at == "files" else "another host"
            yield Observation(
                f"The token went to {there}.",
                (index,),
                cause=(exchange.arrived_at,),
                words=(run.token,),
            )
        if secret in target:
            yield Observation(
                "The token is in a URL.", (index,), cause=("URL",), words=(run.token,)
            )
        if secret in exchange.request.body:
            message = "The token is in a request body."
            yield Observation(message, (index,), cause=("body",), words=(run.token,))
        if (
            exchange.arrived_at == "api"
            and exchange.unmatched
            and secret in headers
            and not meant_for_api(run, exchange)
        ):
            message = f"The token went to {shorten(exchange.path)}, which is not part of the API."
            yield Observation(message, (index,), cause=("another path",), words=(run.token,))

    outcome = run.outcome
    if (
        run.token in outcome.printed
        or run.token in outcome.message
        or run.token in str(outcome.value)
    ):
        yield Observation("The token is in the client's output.", cause=("output",))


@rule(
    "MC502",
    "leaves the base URL",
    severity="warning",
    rests_on=(
        "the documents: their `urls.*` name another host than the gateway, where the gateway's "
        "token is not valid"
    ),
    demand=(
        "The client polls through its base URL even if `urls.*` name another host. With "
        "--strict-urls this is an error."
    ),
    example="The client polls `urls.get` as it is.",
    fix="Build the polling URL from the base URL and the prediction's `id`.",
)
def _leaves_base_url(run: Run) -> Iterator[Observation]:
    for index, exchange in enumerate(run.exchanges):
        if exchange.arrived_at == "foreign":
            request = f"{exchange.method} {shorten(exchange.path)}"
            message = f"It followed a URL of the prediction to another host: {request}."
            severity: Severity | None = "error" if run.strict_urls else None
            yield Observation(message, (index,), severity, (exchange.method,))
