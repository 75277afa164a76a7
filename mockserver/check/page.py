"""A report as one self-contained page of HTML, with a sequence diagram of each finding."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template

import msgspec

from mockserver.check.findings import Finding, Report
from mockserver.check.formatting import Line, describe_case

ROW = 34  # pixels from one exchange to the next
TOP = 40  # pixels above the first exchange
CLIENT, API, OTHER, WIDTH = 90, 470, 700, 1040  # pixels from the left: the three lifelines, and the right edge


def render_page(report: Report, command: str) -> str:
    """The page, as HTML."""
    template = Template(resources.files("mockserver.check").joinpath("report.html").read_text())
    facts = f"{report.runs} runs · {report.seconds:.1f} s · seed {report.seed} · {', '.join(report.models)}"
    sections = [
        _section("Findings", report.findings),
        _section("Advice", report.advice),
        _section("Accepted by the baseline", report.accepted),
    ]
    return template.substitute(
        command=escape(command),
        verdict=escape(verdict_on(report)),
        kind="good" if report.ok else "bad",
        facts=escape(facts),
        notes="".join(f"<p>{escape(note)}</p>" for note in notes_on(report)),
        sections="".join(sections),
    )


def verdict_on(report: Report) -> str:
    """How many rules were broken, in words."""
    rules, ways = len(report.broken_rules), len(report.findings)
    if not rules:
        return "no rule broken"
    more = f" in {ways} ways" if ways > rules else ""
    return f"{rules} {'rule' if rules == 1 else 'rules'} broken{more}"


def notes_on(report: Report) -> list[str]:
    """What a reader should know besides the findings."""
    notes = []
    if report.fixed:
        notes.append(f"Fixed, so take it out of the baseline: {', '.join(report.fixed)}.")
    if report.flaky:
        notes.append(f"Seen once and not again, so not held against the client: {', '.join(report.flaky)}.")
    if report.undecided:
        notes.append(
            f"{report.undecided} of the runs had not ended when their time was over, and the client may have been "
            "waiting as it is allowed to; a longer --deadline decides them."
        )
    if report.runs < report.max_runs and not report.interrupted:
        faster = ", and a client that is a --worker is faster" if report.process_per_call else ""
        notes.append(
            f"{report.runs} of {report.max_runs} cases fitted into the time; a longer --budget plays the rest{faster}."
        )
    if report.interrupted:
        notes.append("Interrupted: what is shown is what was found until then.")
    return notes


def _section(title: str, findings: Sequence[Finding]) -> str:
    return f"<h2>{title}</h2>" + "".join(map(_card, findings)) if findings else ""


def _card(finding: Finding) -> str:
    case = describe_case(finding.case)
    plain = msgspec.json.format(msgspec.json.encode(finding)).decode()
    return (
        f'<article id="{finding.rule}" class="{finding.severity}">'
        f"<h3><code>{finding.rule}</code> {escape(finding.title)} <small>{finding.severity}</small></h3>"
        f"<p>{escape(finding.message)}</p>"
        f"<p><b>Smallest case</b>, confirmed {finding.confirmed} times: {escape(case)}.</p>"
        f"{_sequence_diagram(finding)}"
        f"<p class=rests>Rests on: {escape(finding.rests_on)}.</p>"
        f"<details><summary>The finding as JSON, for <code>mockserver replay</code></summary>"
        f"<pre>{escape(plain)}</pre></details></article>"
    )


def _sequence_diagram(finding: Finding) -> str:
    """A sequence diagram: the exchanges as arrows from the client to the API or another origin, time downwards."""
    lines = finding.exchanges
    others = any(_is_elsewhere(line) for line in lines)
    height = TOP + ROW * (len(lines) + 1)
    lifelines = [(CLIENT, "client"), (API, "API"), *([(OTHER, "elsewhere")] if others else [])]
    drawn = [
        f'<text x="{x}" y="16" class="who">{name}</text>'
        f'<line x1="{x}" y1="24" x2="{x}" y2="{height - 6}" class="life"/>'
        for x, name in lifelines
    ]
    drawn += [_arrow(line, TOP + ROW * place) for place, line in enumerate(lines)]
    end = TOP + ROW * len(lines)
    drawn.append(f'<text x="{CLIENT + 12}" y="{end + 6}" class="end">{escape(finding.outcome[:120])}</text>')
    drawn.append(f'<circle cx="{CLIENT}" cy="{end + 2}" r="5" class="stop"/>')
    label = escape(f"The exchanges of {finding.rule}")
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(drawn)}</svg>'


def _arrow(line: Line, y: int) -> str:
    to = OTHER if _is_elsewhere(line) else API
    kind = " ".join(name for name, holds in (("marked", line.marked), ("fault", "fault" in line.note)) if holds)
    band = f'<rect x="0" y="{y - 18}" width="{WIDTH}" height="{ROW - 4}" class="band"/>' if line.marked else ""
    note = f" · {line.note}" if line.note else ""
    return (
        f'<g class="{kind}">{band}<text x="8" y="{y + 4}" class="at">{line.at:.3f} s</text>'
        f'<line x1="{CLIENT}" y1="{y}" x2="{to - 7}" y2="{y}" class="asked"/>'
        f'<path d="M{to} {y} l-9 -4 v8 z"/>'
        f'<text x="{CLIENT + 12}" y="{y - 5}">{escape(f"{line.method} {line.path}")}</text>'
        f'<text x="{to + 12}" y="{y + 4}" class="answer">{escape(line.response + note)}</text></g>'
    )


def _is_elsewhere(line: Line) -> bool:
    return "file host" in line.note or "another origin" in line.note
