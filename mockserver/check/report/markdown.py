"""Findings as Markdown, for bug trackers."""

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
    models = text(", ".join(report.models))
    parts = [
        f"# {verdict_on(report)}",
        *([code(report.shown_command)] if report.command else []),
        f"{report.runs} runs · {report.seconds:.1f} s · seed {report.seed} · {models}",
        *([text(report.versions)] if report.versions else []),
        *map(text, notes_on(report)),
    ]
    sections = (
        ("Findings", report.findings),
        ("Warnings", report.warnings),
        ("Accepted", report.accepted),
    )
    filled = [(title, findings) for title, findings in sections if findings]
    summary = [
        f"- `{finding.rule}` {text(finding.title)}: {text(finding.message)}"
        for _, findings in filled
        for finding in findings
    ]
    parts += ["\n".join(summary)] if summary else []
    for title, findings in filled:
        parts.append(f"## {title}")
        parts += [finding_as_markdown(finding, report, "###") for finding in findings]
    return "\n\n".join(parts) + "\n"


def finding_as_markdown(finding: Finding, report: Report, heading: str = "##") -> str:
    """One finding, with everything that is needed to discuss and replay it."""
    replay, case = report.replay_of(finding), text(describe_case(finding.case))
    parts = [
        f"{heading} {finding.rule} {text(finding.title)} ({finding.severity})",
        text(finding.message),
        f"**Smallest case**, confirmed {finding.confirmed} times: {case}.",
        fenced(
            "\n".join([*format_exchanges(finding.exchanges), f"     client  {finding.outcome}"])
        ),
        f"**Rests on:** {text(finding.rests_on)}.",
        *([f"**Fix:** {text(finding.fix)}"] if finding.fix else []),
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
    """The exchanges whose messages are shown: marked ones, those with a fault, and the first."""
    complete = [line for line in lines if line.request is not None]
    chosen = [line for line in complete if line.marked or "fault" in line.note]
    first = (chosen or complete)[:MAX_MESSAGES]
    return [line for line in complete if line in first or line is complete[0]]


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
    """A code block whose fence is longer than any in its content."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
    return f"{fence}{language}\n{content}\n{fence}"


def code(content: str) -> str:
    """Inline code."""
    flat = " ".join(content.split())
    ticks = "`" * (1 + max(map(len, re.findall("`+", flat)), default=0))
    blank = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{ticks}{blank}{flat}{blank}{ticks}"


def text(content: str) -> str:
    """Text on one line, escaped for Markdown and HTML, except for code in backticks."""
    flat = " ".join(content.split())
    parts = re.split(r"(`[^`]+`)", flat)
    return "".join(
        part if place % 2 else re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", part)
        for place, part in enumerate(parts)
    )
