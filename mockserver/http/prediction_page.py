"""The inspector: one page over the admin API, and the stream of changes that keeps it alive."""

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
    origin: str,
    urls: Urls | None = None,
) -> dict[str, Any]:
    """A prediction with its timeline, in seconds of its own time, and what is to come."""
    age = prediction.age(tenant.clock.elapsed())
    coming = next_stage(prediction, age)
    return {
        "prediction": backend.render(tenant, prediction, origin, urls or backend.options.urls),
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
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}"
    "img{max-width:100%;border-radius:8px}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    ".track{display:flex;height:2rem;margin:1rem 0 .3rem;border-radius:6px;overflow:hidden}"
    ".track span{background:#667085;color:#fff;padding:.2rem .5rem;min-width:4.5rem;overflow:hidden;white-space:nowrap}"
    ".track .processing{background:#2b6cd9}.track .succeeded{background:#16803c}"
    ".track .failed,.track .canceled,.track .aborted{background:#c4281c}.track .to-come{opacity:.4}"
    "table{border-spacing:0}td{padding:.1rem .8rem .1rem 0;vertical-align:top;overflow-wrap:anywhere}"
    "td:first-child{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.bad{color:#c4281c}"
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
    """The page of a prediction whose `life` is as the admin API tells it; `mode` and `secret` are its tenant's.

    Of the exchanges and deliveries those that concern it are told.
    """
    shown = life["prediction"]
    concerning = (
        each for each in exchanges if shown["id"] == each.prediction_id or shown["id"] in each.path
    )
    own = (each for each in deliveries if each.prediction_id == shown["id"])
    events = sorted(
        [*_entered(life), *_asked(life, concerning, mode, secret), *_posted(life, own)],
        key=lambda each: each.at,
    )
    facts = escape(msgspec.json.format(msgspec.json.encode(shown)).decode())
    picture = f'<img alt="" src="{escape(shown["output"])}">' if shown["output"] else ""
    title = f"{escape(shown['model'])} · {escape(shown['status'])}"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>{picture}"
        f"{_track(life)}<p>{_coming(life)}</p><table>{''.join(map(_row, events[-MAX_EVENTS:]))}</table>"
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


def _coming(life: Mapping[str, Any]) -> str:
    coming = life["next"]
    said = f"{coming['status']} in {coming['in']:.3f} s" if coming else "nothing more to come"
    return escape(f"{life['age']:.3f} s of its own time have passed; {said}.")


def _row(event: Event) -> str:
    return f"<tr{' class=bad' if event.wrong else ''}><td>{event.at:.3f} s<td>{escape(event.text)}"


def _entered(life: Mapping[str, Any]) -> Iterator[Event]:
    for stage in life["stages"]:
        if stage["at"] <= life["age"]:
            yield Event(stage["at"], stage["status"])


def _asked(
    life: Mapping[str, Any], exchanges: Iterable[Exchange], mode: Mode, secret: str
) -> Iterator[Event]:
    created, at = parse_timestamp(life["prediction"]["created_at"]), 0.0
    for each in exchanges:
        told = [
            str(each.status) if each.status else "no answer",
            *filter(None, [each.prediction_status]),
        ]
        fault = f" · fault {msgspec.json.encode(each.fault).decode()}" if each.fault else ""
        wrong = "".join(
            f" · {violation.pointer or '/'}: {violation.description}"
            for violation in each.violations
        )
        text = redacted(f"{each.method} {each.path} → {' '.join(told)}{fault}{wrong}", secret)
        if mode == "autojump":  # its own time stands still until somebody looks
            at = _entered_at(life, each.prediction_status, at)
        else:
            since = (
                (each.tenant_time - created) // MILLISECOND * MILLISECOND
            )  # as fine as `created_at`
            at = max(0.0, since / SECOND, _entered_at(life, each.prediction_status, 0))
        yield Event(at, text, bool(each.fault or each.violations))


def _posted(life: Mapping[str, Any], deliveries: Iterable[Delivery]) -> Iterator[Event]:
    for each in deliveries:
        status = msgspec.json.decode(each.body).get("status")
        came = each.status if each.status is not None else each.error
        text = f"webhook {each.event}, attempt {each.attempt} → {came}"
        yield Event(_entered_at(life, status, 0), text, not each.delivered)


def _entered_at(life: Mapping[str, Any], status: str | None, otherwise: float) -> float:
    """When a status was entered, in seconds; who was told it was told by then."""
    return next(
        (float(stage["at"]) for stage in life["stages"] if stage["status"] == status), otherwise
    )
