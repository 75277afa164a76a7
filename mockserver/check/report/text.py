"""Cases and runs as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import msgspec

from mockserver.backend.journal import Exchange
from mockserver.check.model import Case, Run, fault_of
from mockserver.check.report.messages import Message, messages_of
from mockserver.clock import SECOND
from mockserver.redaction import redacted
from mockserver.reporting.terminal import exchange_line
from mockserver.scenarios.scenario import Fault

MAX_LINES = 24  # exchanges that are listed of a run
MAX_MARKED = 6  # marked exchanges that are listed of a long run
MANY = 3  # consecutive exchanges that look the same, from which on they are one line
MAX_VALUE = 160  # characters of a value
CUT_OFF_WORDS = "was refused everything from here on, and"


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """One exchange of a run as text, or `count` consecutive ones that look the same.

    `at` is in seconds since the first exchange. `marked` exchanges broke the rule.
    """

    at: float
    method: str
    path: str
    response: str
    note: str
    marked: bool
    count: int = 1
    request: Message | None = None
    answer: Message | None = None


def exchange_lines(run: Run, indexes: Sequence[int]) -> list[Line]:
    """The exchanges of a run, with those at `indexes` marked.

    A long run is shortened to its first, last and marked exchanges.
    """
    began = run.exchanges[0].received_at if run.exchanges else 0
    lines = [
        Line(
            at=round((exchange.received_at - began) / SECOND, 3),
            method=exchange.method,
            path=_short(redacted(exchange.path, run.token)),
            response=redacted(_response_text(run, exchange), run.token),
            note=", ".join(_notes(run, index, exchange)),
            marked=index in indexes,
        )
        for index, exchange in enumerate(run.exchanges)
    ]
    folded = list(_folded(lines))
    if len(folded) > MAX_LINES:
        marked = [place for place, (index, _) in enumerate(folded) if lines[index].marked]
        ends = {*range(MAX_LINES // 2), *range(len(folded) - 6, len(folded))}
        folded = list(_with_gaps(folded, sorted({*ends, *marked[:MAX_MARKED]})))
    return [_with_messages(line, run.exchanges[index], run.token) for index, line in folded]


def _with_messages(line: Line, exchange: Exchange, token: str) -> Line:
    request, answer = messages_of(exchange, token)
    return msgspec.structs.replace(line, request=request, answer=answer)


def _folded(lines: Sequence[Line]) -> Iterator[tuple[int, Line]]:
    """The lines with their indexes; MANY or more consecutive equal ones become one."""
    for _, group in groupby(
        enumerate(lines), key=lambda item: msgspec.structs.replace(item[1], at=0)
    ):
        same = list(group)
        if len(same) < MANY:
            yield from same
            continue
        (index, first), (_, last) = same[0], same[-1]
        note = ", ".join(filter(None, (first.note, f"× {len(same)}, until {last.at:.3f}")))
        yield index, msgspec.structs.replace(first, note=note, count=len(same))


def _with_gaps(
    lines: Sequence[tuple[int, Line]], kept: Sequence[int]
) -> Iterator[tuple[int, Line]]:
    """The lines at some positions, with notes of how many exchanges were left out before."""
    for before, place in zip([-1, *kept], kept, strict=False):
        index, line = lines[place]
        skipped = sum(left_out.count for _, left_out in lines[before + 1 : place])
        note = (
            ", ".join(filter(None, (line.note, f"after {skipped} more"))) if skipped else line.note
        )
        yield index, msgspec.structs.replace(line, note=note)


def format_exchanges(lines: Sequence[Line]) -> list[str]:
    """Exchanges in aligned columns."""
    path = max((len(line.path) for line in lines), default=0)
    response = min(60, max((len(line.response) for line in lines), default=0))
    rendered = []
    for line in lines:
        mark = "▶" if line.marked else " "
        exchange = exchange_line(
            f"{line.method:<4}", f"{line.path:<{path}} ", f"{line.response:<{response}}"
        )
        rendered.append(f"  {mark} {line.at:7.3f}  {exchange}  {line.note}".rstrip())
    return rendered


def describe_case(case: Case) -> str:
    """A case in words: how the gateway differs from the default, or else the input."""
    scenario = case.scenario
    parts = [f"{case.concurrent} concurrent calls"] if case.concurrent > 1 else []

    for key, script in scenario.get("faults", {}).items():
        for number, fault in enumerate(script, 1):
            if fault is not None:
                which = (
                    f"{key} number {number}"
                    if number > 1 or len(script) > 1
                    else f"the first {key}"
                )
                parts.append(f"{which}: {describe_fault(msgspec.convert(fault, Fault))}")
    if "lifecycle" in scenario:
        parts.append("the prediction goes " + " → ".join(map(_step, scenario["lifecycle"])))
    rest = {
        name: part
        for name, part in scenario.items()
        if name not in ("faults", "lifecycle", "name", "description")
    }
    parts += [f"{name}: {as_short_json(part)}" for name, part in rest.items()]
    if case.clock != "autojump":
        parts.append("in real time")

    plain = f"the gateway behaves as usual, and the input is {as_short_json(case.input)}"
    return "; ".join(parts) or plain


def _step(step: Mapping[str, Any]) -> str:
    polls = step.get("polls", 1)
    return f"{step['status']} for {polls} polls" if polls > 1 else str(step["status"])


def describe_fault(fault: Fault) -> str:
    """A fault in words."""
    after = " after it took effect" if fault.after else ""
    times = {1: "", "always": ", always"}.get(fault.times, f", {fault.times} times")
    chance = f", with a chance of {fault.chance:g}" if fault.chance is not None else ""
    return _failure(fault) + after + times + chance


def _failure(fault: Fault) -> str:
    if fault.status is not None:
        page = {
            "api": "",
            "html": " with an HTML page",
            "text": " in plain text",
            "empty": " with an empty body",
        }[fault.page]
        return f"answered {fault.status}{page}{_retry_after(fault)}"
    if fault.disconnect is not None:
        return "connection reset" if fault.disconnect == "reset" else "connection closed"
    if fault.body is not None:
        return f"{fault.body} body"
    if fault.cut is not None:
        return f"cut at {fault.cut:.0%} of the body"
    if fault.stall is not None:
        return f"stalled at {fault.stall:.0%} of the body"
    return f"dripping for {fault.drip:g} s" if fault.drip is not None else f"{fault.delay:g} s late"


def _retry_after(fault: Fault) -> str:
    if fault.retry_after_date is not None:
        return f", Retry-After: a date {fault.retry_after_date:g} s ahead"
    return f", Retry-After: {fault.retry_after}" if fault.retry_after is not None else ""


def describe_ending(run: Run) -> str:
    """How the client's call ended, or each of several calls."""
    outcome = run.outcome
    if outcome.parts:
        parts = (describe_ending(replace(run, outcome=part)) for part in outcome.parts)
        return "; ".join(f"{number}: {part}" for number, part in enumerate(parts, 1))
    if outcome.kind == "hung":
        return (
            f"{CUT_OFF_WORDS} did not end"
            if run.cut_off
            else f"had not ended after {run.timeout:.3g} s"
        )
    if outcome.kind == "raised":
        lines = redacted(outcome.message, run.token).strip().splitlines() or ["no reason given"]
        ending = f"raised {lines[-1][:300]}"
        return f"{CUT_OFF_WORDS} {ending}" if run.cut_off else ending
    if isinstance(outcome.value, bytes):
        return f"returned {len(outcome.value)} bytes"
    return redacted(f"returned {as_short_json(outcome.value)}", run.token)


def as_short_json(value: Any) -> str:
    """A value as JSON on one line, cut to a readable length."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return f"a {type(value).__name__}"
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}… ({len(text)} characters)"


def _notes(run: Run, index: int, exchange: Exchange) -> list[str]:
    notes = []
    if index in run.billed_indexes[run.case.concurrent :]:
        notes.append("billed again")
    if exchange.fault is not None:
        notes.append("fault")
    if exchange.arrived_at != "api":
        webhook = "webhook" if exchange.committed else "webhook that is not genuine"
        notes.append(
            {"files": "file host", "foreign": "another origin", "receiver": webhook}[
                exchange.arrived_at
            ]
        )
    return notes


def _response_text(run: Run, exchange: Exchange) -> str:
    text = str(exchange.status) if exchange.status else "no response"
    if exchange.status and exchange.prediction_status:
        text += f" {exchange.prediction_status}"
    if exchange.fault is not None:
        fault = fault_of(exchange)
        if fault.status is None:
            text = f"{text}, {_failure(fault)}" if exchange.status else _failure(fault)
        text += _retry_after(fault)
    if exchange.committed and run.role(exchange) == "create":
        text += f", …{(exchange.prediction_id or '')[-4:]} created"
    return text


def _short(path: str) -> str:
    """A path, of which a long one loses all but its last two parts."""
    parts = path.split("/")
    return "…/" + "/".join(parts[-2:]) if len(parts) > 4 else path
