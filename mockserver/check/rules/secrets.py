"""MC5xx: where a client sends its token."""

from __future__ import annotations

from collections.abc import Iterator

from mockserver.check.model import Run
from mockserver.check.rules.evidence import meant_for_api
from mockserver.check.rules.rule import Observation, rule
from mockserver.json_text import shorten


@rule(
    "MC501",
    "leaks the token",
    rests_on="secrets: URLs, bodies and output are logged, and other hosts belong to others",
    example="The session that carries the token also fetches the picture from the file host.",
    demand=(
        "The token goes to the API's origin only: never to the file host or wherever else a URL leads; and never "
        "into a URL, a request's body or the client's output."
    ),
    fix=(
        "Attach the token by origin: to the API's requests alone, in the Authorization header alone. Fetch files "
        "with a client of their own."
    ),
)
def _leaks_token(run: Run) -> Iterator[Observation]:
    secret = run.token.encode()
    for index, exchange in enumerate(run.exchanges):
        shown = exchange.path.encode() + b"?" + exchange.query
        headers = b"\n".join(value for _, value in exchange.headers)
        if exchange.origin != "api" and secret in headers:
            there = (
                "the file host" if exchange.origin == "files" else "an origin that is not the API's"
            )
            yield Observation(
                f"The token went to {there}.",
                (index,),
                cause=(exchange.origin,),
                words=(run.token,),
            )
        if secret in shown:
            yield Observation(
                "The token stands in a URL.", (index,), cause=("URL",), words=(run.token,)
            )
        if secret in exchange.body:
            said = "The token stands in the body of a request."
            yield Observation(said, (index,), cause=("body",), words=(run.token,))
        if (
            exchange.origin == "api"
            and exchange.unmatched
            and secret in headers
            and not meant_for_api(run, exchange)
        ):
            said = f"The token went to {shorten(exchange.path)}, which is not the API's."
            yield Observation(said, (index,), cause=("another path",), words=(run.token,))
    outcome = run.outcome
    if (
        run.token in outcome.printed
        or run.token in outcome.message
        or run.token in str(outcome.value)
    ):
        yield Observation("The token stands in the client's output.", cause=("output",))


@rule(
    "MC502",
    "leaves the base URL it was given",
    severity="warning",
    rests_on="the documents: `urls.*` there point at another host than the gateway, where its token means nothing",
    example="The client polls `urls.get` as it is.",
    demand=(
        "A client polls through the base URL that it was given when `urls.*` point elsewhere. With --strict-urls "
        "an error."
    ),
    fix="Build the polling URL from the base URL and the prediction's `id`.",
)
def _leaves_base_url(run: Run) -> Iterator[Observation]:
    for index, exchange in enumerate(run.exchanges):
        if exchange.origin == "foreign":
            said = f"It followed a URL of the prediction to another origin: {exchange.method} {shorten(exchange.path)}."
            yield Observation(
                said, (index,), "error" if run.strict_urls else None, (exchange.method,)
            )
