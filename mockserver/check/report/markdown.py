"""Findings as Markdown, as they are pasted into a bug tracker."""

from __future__ import annotations

import re
from html import escape

from mockserver.check.report.findings import FOLDER, Finding, Report
from mockserver.check.report.messages import curl_of
from mockserver.check.report.summary import notes_on, verdict_on
from mockserver.check.report.text import Line, describe_case, format_exchanges
from mockserver.reporting.terminal import exchange_line

MAX_MESSAGES = 6  # exchanges of a finding that are shown whole


def render_markdown(report: Report) -> str:
    """The whole report."""
    parts = [
        f"# {verdict_on(report)}",
        *([code(report.shown_command)] if report.command else []),
        f"{report.runs} runs · {report.seconds:.1f} s · seed {report.seed} · {text(', '.join(report.models))}",
        *([text(report.versions)] if report.versions else []),
        *map(text, notes_on(report)),
    ]
    sections = (
        ("Findings", report.findings),
        ("Warnings", report.warnings),
        ("Accepted", report.accepted),
    )
    shown = [(title, findings) for title, findings in sections if findings]
    listed = [
        f"- `{finding.rule}` {text(finding.title)}: {text(finding.message)}"
        for _, findings in shown
        for finding in findings
    ]
    parts += ["\n".join(listed)] if listed else []
    for title, findings in shown:
        parts.append(f"## {title}")
        parts += [finding_as_markdown(finding, report, "###") for finding in findings]
    return "\n\n".join(parts) + "\n"


def finding_as_markdown(finding: Finding, report: Report, heading: str = "##") -> str:
    """One finding, with all that is needed to argue about it, and to play it again."""
    replay = report.replay_of(finding)
    parts = [
        f"{heading} {finding.rule} {text(finding.title)} ({finding.severity})",
        text(finding.message),
        f"**Smallest case**, confirmed {finding.confirmed} times: {text(describe_case(finding.case))}.",
        fenced(
            "\n".join([*format_exchanges(finding.exchanges), f"     client  {finding.outcome}"])
        ),
        f"**Rests on:** {text(finding.rests_on)}.",
        *([f"**What usually mends it:** {text(finding.fix)}"] if finding.fix else []),
        *(
            [fenced(f"{replay}\nmockserver serve --scenario {FOLDER / finding.file_name}", "sh")]
            if replay
            else []
        ),
        *([f"Look for: {', '.join(map(code, finding.words))}"] if finding.words else []),
        *map(_exchange, to_show(finding.exchanges)),
        *([f"*{text(report.versions)}*"] if report.versions else []),
    ]
    return "\n\n".join(parts)


def to_show(lines: tuple[Line, ...]) -> list[Line]:
    """The exchanges whose messages are shown: those at fault, those that met a fault, and the first."""
    wanted = [line for line in lines if line.request is not None]
    chosen = [line for line in wanted if line.marked or "fault" in line.note]
    return [
        line for line in wanted if line in (chosen or wanted)[:MAX_MESSAGES] or line is wanted[0]
    ]


def _exchange(line: Line) -> str:
    assert line.request is not None
    assert line.answer is not None
    summary = escape(f"{line.at:.3f} s · {exchange_line(line.method, line.path, line.response)}")
    parts = [
        f"<details><summary>{summary}</summary>",
        fenced(line.request.text, "http"),
        fenced(line.answer.text, "http"),
        fenced(curl_of(line.request), "sh"),
        "</details>",
    ]
    return "\n\n".join(parts)


def fenced(content: str, language: str = "") -> str:
    """A block of code, in a fence that nothing in it can end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content}\n{fence}"


def code(content: str) -> str:
    """Code within a line."""
    flat = " ".join(content.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    blank = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{blank}{flat}{blank}{ticks}"


def text(content: str) -> str:
    """Text on one line that Markdown and HTML leave as it is; what stands in backticks stays code."""
    flat = " ".join(content.split())
    parts = re.split(r"(`[^`]+`)", flat)
    return "".join(
        part if place % 2 else re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", part)
        for place, part in enumerate(parts)
    )
