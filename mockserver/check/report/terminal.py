"""A hunt on the terminal: a progress bar while it lasts, and its report."""

from __future__ import annotations

import os
import shutil
import sys

import click

from mockserver.check.progress import Progress
from mockserver.check.report.findings import Finding, Report, describe
from mockserver.check.report.summary import notes_on, verdict_on

BAR_WIDTH = 24  # characters
MIN_BAR_WIDTH = 8
CLEAR_LINE = "\r\x1b[K"


class ProgressBar:
    """Progress on standard error, redrawn in place, where that is a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def __call__(self, progress: Progress) -> None:
        """Draw where a hunt stands."""
        if self._shown:
            # A line as wide as the terminal makes some of them wrap, and what has wrapped is not
            # redrawn.
            sys.stderr.write(CLEAR_LINE + progress_line(progress, _terminal_width() - 1))
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()


def progress_line(progress: Progress, width: int) -> str:
    """Progress as one line of at most `width` characters: the bar shrinks first, then the text is cut."""
    left = max(0.0, progress.budget - progress.elapsed)
    broken = ", ".join(progress.broken_rules) or "no rule broken"
    text = f"{progress.runs}/{progress.max_runs} runs · {left:.0f} s left · {broken} · {progress.doing}"
    length = max(MIN_BAR_WIDTH, min(BAR_WIDTH, width - len(text) - 1))
    # A hunt ends with its runs or with its budget, whichever is spent first.
    share = max(progress.runs / max(1, progress.max_runs), progress.elapsed / progress.budget)
    filled = round(length * min(1.0, share))
    line = f"{'━' * filled}{'╌' * (length - filled)} {text}"
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"[: max(0, width)]


def _terminal_width() -> int:
    """The width of the terminal that the bar is drawn on; standard output may be a file."""
    try:
        fallback = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        fallback = os.terminal_size((80, 24))
    return shutil.get_terminal_size(fallback).columns


def show(report: Report) -> None:
    """Print a report."""
    for finding in (*report.findings, *report.warnings):
        click.echo()
        click.echo(_painted(finding, describe(finding, report.replay_of(finding))))
    click.echo()
    for finding in report.accepted:
        click.echo(f"accepted by the baseline: {finding.rule} {finding.title}")
    for note in notes_on(report):
        click.echo(note)
    broken = verdict_on(report)
    count = len(report.warnings)
    warnings = f" · {count} warning{'s' * (count != 1)}" if count else ""
    click.secho(
        f"{report.runs} runs · {report.seconds:.1f} s · {broken}{warnings}",
        fg="green" if report.ok else "red",
        bold=True,
    )


def _painted(finding: Finding, text: str) -> str:
    """The text with its head and the offending lines in colour, which click takes away where it is not shown."""
    colour = "red" if finding.severity == "error" else "yellow"
    head, *rest = text.split("\n")
    lines = [click.style(line, fg=colour) if line.startswith("  ▶") else line for line in rest]
    return "\n".join([click.style(head, fg=colour, bold=True), *lines])
