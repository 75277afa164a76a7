"""The page of one prediction, for people: its timeline, and all that concerned it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

import msgspec

from mockserver.backend.backend import Backend
from mockserver.backend.deliveries import Delivery
from mockserver.backend.journal import Exchange
from mockserver.backend.prediction import Prediction, effective_timeline, next_stage
from mockserver.backend.tenant import TenantState
from mockserver.clock import MILLISECOND, SECOND, Mode, parse_timestamp, timestamp
from mockserver.redaction import redacted
from mockserver.scenarios.scenario import Urls


def life_of(
    backend: Backend,
    tenant: TenantState,
    prediction: Prediction,
    base_url: str,
    urls: Urls | None = None,
) -> dict[str, Any]:
    """A prediction with its timeline, in seconds of its own time, and its next change."""
    age = prediction.age(tenant.clock.elapsed())
    coming = next_stage(prediction, age)
    urls = urls or backend.options.urls
    return {
        "prediction": backend.renderer.render(tenant, prediction, base_url, urls),
        "now": timestamp(tenant.clock.now()),
        "age": age / SECOND,
        "stages": [
            {"status": stage.status, "at": stage.at / SECOND}
            for stage in effective_timeline(prediction)
        ],
        "next": None
        if coming is None
        else {"status": coming.status, "in": (coming.at - age) / SECOND},
    }


MAX_EVENTS = 200  # that are listed, the newest
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color-scheme:light dark}"
    "img{max-width:100%;border-radius:8px}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".track{display:flex;height:2rem;margin:1rem 0 .3rem;border-radius:6px;overflow:hidden}"
    ".track span{background:#667085;color:#fff;padding:.2rem .5rem;min-width:4.5rem;"
    "overflow:hidden;white-space:nowrap}"
    ".track .processing{background:#2b6cd9}.track .succeeded{background:#16803c}"
    ".track .failed,.track .canceled,.track .aborted{background:#c4281c}"
    ".track .to-come{opacity:.4}"
    "table{border-spacing:0}"
    "td{padding:.1rem .8rem .1rem 0;vertical-align:top;overflow-wrap:anywhere}"
    "td:first-child{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".bad{color:#c4281c}"
)


class Event(NamedTuple):
    """Something that concerned a prediction, in seconds of the prediction's own time."""

    at: float
    text: str
    wrong: bool = False


def page_of(
    life: Mapping[str, Any],
    exchanges: Iterable[Exchange],
    deliveries: Iterable[Delivery],
    mode: Mode,
    secret: str,
) -> str:
    """The page of a prediction, whose `life` is as the admin API shows it.

    `mode` and `secret` are those of its tenant. It lists the exchanges and deliveries that concern
    the prediction.
    """
    prediction = life["prediction"]
    identifier = prediction["id"]
    concerned = (
        exchange
        for exchange in exchanges
        if identifier == exchange.prediction_id or identifier in exchange.path
    )
    own = (delivery for delivery in deliveries if delivery.prediction_id == identifier)
    events = sorted(
        [*_statuses(life), *_exchanges(life, concerned, mode, secret), *_webhooks(life, own)],
        key=lambda event: event.at,
    )

    facts = escape(msgspec.json.format(msgspec.json.encode(prediction)).decode())
    output = prediction["output"]
    picture = f'<img alt="" src="{escape(output)}">' if output else ""
    title = f"{escape(prediction['model'])} · {escape(prediction['status'])}"
    rows = "".join(map(_row, events[-MAX_EVENTS:]))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{picture}"
        f"{_track(life)}<p>{_next_change(life)}</p><table>{rows}</table>"
        f"<pre>{facts}</pre></html>"
    )


def _track(life: Mapping[str, Any]) -> str:
    stages = life["stages"]
    last = max([life["age"], *(stage["at"] for stage in stages)]) * 1.15 or 1
    ends = [*(stage["at"] for stage in stages[1:]), last]
    bars = "".join(
        f'<span class="{escape(stage["status"])}{" to-come" if stage["at"] > life["age"] else ""}" '
        f'style="flex:{max(end - stage["at"], 0.001):g}">{escape(stage["status"])}</span>'
        for stage, end in zip(stages, ends, strict=True)
    )
    return f'<div class="track">{bars}</div>'


def _next_change(life: Mapping[str, Any]) -> str:
    coming = life["next"]
    change = f"{coming['status']} in {coming['in']:.3f} s" if coming else "no change is to come"
    return escape(f"{life['age']:.3f} s of its own time have passed; {change}.")


def _row(event: Event) -> str:
    return f"<tr{' class=bad' if event.wrong else ''}><td>{event.at:.3f} s<td>{escape(event.text)}"


def _statuses(life: Mapping[str, Any]) -> Iterator[Event]:
    for stage in life["stages"]:
        if stage["at"] <= life["age"]:
            yield Event(stage["at"], stage["status"])


def _exchanges(
    life: Mapping[str, Any], exchanges: Iterable[Exchange], mode: Mode, secret: str
) -> Iterator[Event]:
    created, at = parse_timestamp(life["prediction"]["created_at"]), 0.0
    for exchange in exchanges:
        status = exchange.prediction_status
        if mode == "autojump":  # its own time stands still until somebody looks
            at = _entered_at(life, status, at)
        else:
            since = exchange.tenant_time - created
            since = since // MILLISECOND * MILLISECOND  # as fine as `created_at`
            at = max(0.0, since / SECOND, _entered_at(life, status, 0))
        wrong = bool(exchange.fault or exchange.violations)
        yield Event(at, redacted(_summary(exchange), secret), wrong)


def _summary(exchange: Exchange) -> str:
    """An exchange as one line: the request, the response, its fault and its violations."""
    response = str(exchange.status) if exchange.status else "no response"
    if exchange.prediction_status:
        response += f" {exchange.prediction_status}"
    notes = []
    if exchange.fault:
        notes.append(f"fault {msgspec.json.encode(exchange.fault).decode()}")
    notes += [
        f"{violation.pointer or '/'}: {violation.description}" for violation in exchange.violations
    ]
    return " · ".join([f"{exchange.method} {exchange.path} → {response}", *notes])


def _webhooks(life: Mapping[str, Any], deliveries: Iterable[Delivery]) -> Iterator[Event]:
    for delivery in deliveries:
        status = msgspec.json.decode(delivery.body).get("status")
        outcome = delivery.error if delivery.status is None else delivery.status
        text = f"webhook {delivery.event}, attempt {delivery.attempt} → {outcome}"
        yield Event(_entered_at(life, status, 0), text, not delivery.delivered)


def _entered_at(life: Mapping[str, Any], status: str | None, otherwise: float) -> float:
    """When a status was entered, in seconds: by then a client can have been sent it."""
    times = (float(stage["at"]) for stage in life["stages"] if stage["status"] == status)
    return next(times, otherwise)
