"""A report as one self-contained HTML page, with a diagram and all exchanges of each finding."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib import resources

import msgspec

from mockserver.check.report.findings import FOLDER, Finding, Report
from mockserver.check.report.markdown import finding_as_markdown
from mockserver.check.report.messages import Message, curl_of
from mockserver.check.report.summary import notes_on, verdict_on
from mockserver.check.report.text import Line, describe_case
from mockserver.reporting.page import card, render_shell, section

ROW = 34  # pixels from one exchange to the next
TOP = 40  # pixels above the first exchange
# Pixels from the left: the three lifelines, and the right edge.
CLIENT, API, OTHER, WIDTH = 90, 470, 700, 1040


def render_page(report: Report) -> str:
    """The page, as HTML."""
    files = resources.files("mockserver.check.report")
    command = f"<code>{escape(report.shown_command)}</code><br>"
    facts = (
        f"{report.runs} runs · {report.seconds:.1f} s · seed {report.seed} · "
        f"{', '.join(report.models)}"
    )
    header = (
        f"<p>{command if report.command else ''}{escape(facts)}<br>{escape(report.versions)}</p>"
        + "".join(f"<p>{escape(note)}</p>" for note in notes_on(report))
    )

    sections = (
        ("Findings", report.findings),
        ("Warnings", report.warnings),
        ("Accepted by the baseline", report.accepted),
    )
    contents = "".join(_entry(finding) for _, findings in sections for finding in findings)
    cards = "".join(
        section(title, (_card(finding, report) for finding in findings))
        for title, findings in sections
    )
    return render_shell(
        "check",
        verdict_on(report),
        ok=report.ok,
        header=header,
        body=f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n<main>{cards}</main>',
        style=files.joinpath("report.css").read_text(),
        script=files.joinpath("report.js").read_text(),
    )


def _anchor(finding: Finding) -> str:
    return escape(finding.file_name.removesuffix(".json"))


def _entry(finding: Finding) -> str:
    """A line of the table of contents."""
    return (
        f'<li class="{finding.severity}"><a href="#{_anchor(finding)}"><code>{finding.rule}</code> '
        f"{escape(finding.title)}</a> <span>{escape(finding.message)}</span></li>"
    )


def _card(finding: Finding, report: Report) -> str:
    anchor, replay = _anchor(finding), report.replay_of(finding)
    plain = msgspec.json.format(msgspec.json.encode(finding)).decode()
    fix = f"<p class=fix><b>Fix:</b> {_prose(finding.fix)}</p>" if finding.fix else ""
    serve = (
        f"mockserver serve --scenario {FOLDER / finding.file_name}"
        "  # to try it by hand, with the curl commands above"
    )
    again = (
        f"<p><b>Replay</b></p><pre class=replay>{escape(replay)}\n{escape(serve)}</pre>"
        if replay
        else ""
    )
    heading = (
        f'<a href="#{anchor}"><code>{finding.rule}</code></a> {escape(finding.title)} '
        f"<small>{finding.severity}</small>"
        '<button type="button" hidden>Copy as Markdown</button>'
    )
    content = (
        f"<p>{_prose(finding.message)}</p>"
        f"<p><b>Smallest case</b>, confirmed {finding.confirmed} times: "
        f"{escape(describe_case(finding.case))}.</p>"
        f"{_sequence_diagram(finding)}"
        f"{_exchanges(finding)}"
        f"{fix}<p class=rests>Rests on: {_prose(finding.rests_on)}.</p>{again}"
        "<details><summary>The finding as JSON, for <code>mockserver replay</code></summary>"
        f"<pre>{escape(plain)}</pre></details>"
        "<details class=markdown><summary>The finding as Markdown</summary>"
        f"<pre>{escape(finding_as_markdown(finding, report))}</pre></details>"
    )
    return card(finding.severity, heading, content, anchor)


def _prose(sentence: str) -> str:
    """A sentence as HTML, in which text in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(sentence))


def _exchanges(finding: Finding) -> str:
    """The requests and responses, of which the marked ones are open."""
    exchanges = "".join(_exchange(line, finding.words) for line in finding.exchanges)
    end = f'<div class="outcome">client {marked(finding.outcome, finding.words)}</div>'
    return f'<div class="exchanges">{exchanges}{end}</div>'


def _exchange(line: Line, words: Sequence[str]) -> str:
    kind = _kind(line)
    note = f" <i>{escape(line.note)}</i>" if line.note else ""
    head = (
        f"<b>{line.at:.3f} s</b> {escape(line.method)} {marked(line.path, words)} "
        f"→ {marked(line.response, words)}{note}"
    )
    if line.request is None or line.answer is None:
        return f'<div class="exchange {kind}">{head}</div>'
    return (
        f'<details class="exchange {kind}"{" open" if line.marked else ""}>'
        f"<summary>{head}</summary>"
        f"<h4>Request</h4>{_message(line.request, words)}"
        f"<h4>Response</h4>{_message(line.answer, words)}"
        f"<h4>By hand</h4><pre class=curl>{escape(curl_of(line.request))}</pre></details>"
    )


def _message(message: Message, words: Sequence[str]) -> str:
    return f"<pre>{marked(message.text, words)}</pre>"


def marked(content: str, words: Sequence[str]) -> str:
    """Text as HTML, in which whole words that are among `words` are marked."""
    if not any(words):
        return escape(content)
    alternatives = "|".join(
        re.escape(word) for word in sorted(filter(None, words), key=len, reverse=True)
    )
    parts = re.split(rf"((?<!\w)(?:{alternatives})(?!\w))", content, flags=re.IGNORECASE)
    return "".join(
        f"<mark>{escape(part)}</mark>" if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def _sequence_diagram(finding: Finding) -> str:
    """A sequence diagram: arrows from the client to the API or another host, time downwards."""
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
    drawn.append(
        f'<text x="{CLIENT + 12}" y="{end + 6}" class="end">{escape(finding.outcome[:120])}</text>'
    )
    drawn.append(f'<circle cx="{CLIENT}" cy="{end + 2}" r="5" class="stop"/>')

    label = escape(f"The exchanges of {finding.rule}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f"{''.join(drawn)}</svg>"
    )


def _arrow(line: Line, y: int) -> str:
    to = OTHER if _is_elsewhere(line) else API
    head = f"M{CLIENT + 7} {y} l9 -4 v8 z" if "webhook" in line.note else f"M{to} {y} l-9 -4 v8 z"
    band = (
        f'<rect x="0" y="{y - 18}" width="{WIDTH}" height="{ROW - 4}" class="band"/>'
        if line.marked
        else ""
    )
    note = f" · {line.note}" if line.note else ""
    return (
        f'<g class="{_kind(line)}">{band}<text x="8" y="{y + 4}" class="at">{line.at:.3f} s</text>'
        f'<line x1="{CLIENT}" y1="{y}" x2="{to - 7}" y2="{y}" class="asked"/>'
        f'<path d="{head}"/>'
        f'<text x="{CLIENT + 12}" y="{y - 5}">{escape(f"{line.method} {line.path}")}</text>'
        f'<text x="{to + 12}" y="{y + 4}" class="answer">{escape(line.response + note)}</text></g>'
    )


def _kind(line: Line) -> str:
    return " ".join(
        name for name, holds in (("marked", line.marked), ("fault", "fault" in line.note)) if holds
    )


def _is_elsewhere(line: Line) -> bool:
    return "file host" in line.note or "another origin" in line.note
