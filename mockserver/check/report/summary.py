"""A hunt in a few sentences, for every report: the verdict, and what a reader should know besides."""

from __future__ import annotations

from collections import Counter

from mockserver.check.report.findings import MAX_CAUSES, Report


def verdict_on(report: Report) -> str:
    """How many rules were broken, in words."""
    rules, ways = len(report.broken_rules), len(report.findings)
    if not rules:
        return "no rule broken"
    more = f" in {ways} ways" if ways > rules else ""
    return f"{rules} {'rule' if rules == 1 else 'rules'} broken{more}"


def untested_runs(report: Report) -> str:
    """Of a client that breaks down: how much of the hunt says nothing."""
    return (
        f"In {report.untested} of {report.runs} runs the client sent nothing, and could not make the plain call "
        f"either, after what it had met before; it said: {report.client_error}"
    )


def notes_on(report: Report) -> list[str]:
    """What a reader should know besides the findings."""
    notes = []
    if report.fixed:
        notes.append(f"Fixed, so take it out of the baseline: {', '.join(report.fixed)}.")
    if report.flaky:
        notes.append(
            f"Seen once and not again, so not held against the client: {', '.join(report.flaky)}."
        )
    if report.undecided:
        notes.append(
            f"{report.undecided} of the runs had not ended when their time was over, and the client may have been "
            "waiting as it is allowed to; a longer --deadline decides them."
        )
    if report.overloaded:
        notes.append(
            f"The machine was too busy to judge {report.overloaded} of the cases: the client did not get a "
            "processor. Fewer --jobs leave it more."
        )
    if report.unconfirmed:
        notes.append(
            f"Broken once, with no time left to confirm it: {', '.join(report.unconfirmed)}; a longer --budget does."
        )
    if report.not_looked_for:
        notes.append(f"Not looked for: {', '.join(report.not_looked_for)}.")
    if {"MC102", "MC302"} & {finding.rule for finding in report.findings}:
        notes.append(
            "A client that passes on only some inputs is checked with these alone: --inputs prompt,aspect_ratio."
        )
    if report.untested:
        notes.append(untested_runs(report))
    ways = Counter(
        (finding.rule, finding.severity) for finding in (*report.findings, *report.warnings)
    )
    if many := sorted({rule for (rule, _), count in ways.items() if count >= MAX_CAUSES}):
        notes.append(
            f"After {MAX_CAUSES} ways in which a rule is broken, no more are looked for: {', '.join(many)}."
        )
    if report.runs < report.max_runs and not report.interrupted:
        faster = (
            "client that is a --worker is faster"
            if report.process_per_call
            else "waiting client is faster with more --jobs"
        )
        notes.append(
            f"{report.runs} of {report.max_runs} cases fitted into the time; a longer --budget plays the rest, and a "
            f"{faster}."
        )
    if report.interrupted:
        notes.append("Interrupted: what is shown is what was found until then.")
    return notes
