"""A hunt on the terminal: a bar while it lasts, and its report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mockserver.check.findings import FOLDER, Finding, Report, describe
from mockserver.check.hunt import Progress
from mockserver.check.page import notes_of

BAR = 24  # characters
CLEAR = "\r\x1b[K"


class Bar:
    """Progress on standard error, where that is a terminal; silent elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, progress: Progress) -> None:
        """Draw where a hunt stands."""
        if self._shown:
            sys.stderr.write(CLEAR + line_of(progress))
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()


def line_of(progress: Progress) -> str:
    """Progress as one line."""
    done = round(BAR * min(1.0, progress.runs / max(1, progress.max_runs)))
    broken = ", ".join(progress.broken_rules) or "no rule broken"
    counts = f"{progress.runs}/{progress.max_runs} runs · {progress.left:.0f} s left"
    return f"{'━' * done}{'╌' * (BAR - done)} {counts} · {broken} · {progress.doing}"


def show(report: Report, command: Sequence[str], saved: dict[str, Path]) -> None:
    """Print a report. `saved` tells where each finding is, by its file's name."""
    words = " ".join(command)
    for finding in (*report.findings, *report.advice):
        replay = f"mockserver replay {saved.get(finding.file_name, FOLDER / finding.file_name)} -- {words}"
        click.echo()
        click.echo(_painted(finding, describe(finding, replay)))
    click.echo()
    for finding in report.accepted:
        click.echo(f"accepted by the baseline: {finding.rule} {finding.title}")
    for note in notes_of(report):
        click.echo(note)
    count = len(report.findings)
    broken = "no rule broken" if not count else f"{count} {'rule' if count == 1 else 'rules'} broken"
    advice = f" · {len(report.advice)} advice" if report.advice else ""
    click.secho(
        f"{report.runs} runs · {report.seconds:.1f} s · {broken}{advice}", fg="green" if report.ok else "red", bold=True
    )


def _painted(finding: Finding, text: str) -> str:
    """The text with its head and the offending lines in colour, which click takes away where it is not shown."""
    colour = "red" if finding.severity == "error" else "yellow"
    head, *rest = text.split("\n")
    lines = [click.style(line, fg=colour) if line.startswith("  ▶") else line for line in rest]
    return "\n".join([click.style(head, fg=colour, bold=True), *lines])
