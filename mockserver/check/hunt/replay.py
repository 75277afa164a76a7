"""Playing a case again: beside its control case, and as a saved finding has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.generate.catalogue import fixed_cases
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.preflight import check_reached, check_worker
from mockserver.check.model import Case, Run, control_case
from mockserver.check.report.findings import Finding
from mockserver.check.rules.evidence import needs_comparison_alone, needs_control, sent_nothing
from mockserver.check.rules.registry import RULES, find_breaches
from mockserver.check.rules.rule import Breach

PLAYS_AT_ONCE = 10  # of a case whose calls are made at once: it is left to chance how they meet


def with_control(run: Run, play: Callable[[Case], Run]) -> Run:
    """A run; where a rule compares it with its control case, or with a call made alone, with that outcome too."""
    if sent_nothing(run):
        plain = next(fixed_cases(run.contract, [run.case.model], None))
        run = run.with_control_run(play(plain).outcome)
    elif needs_control(run):
        run = run.with_control_run(play(control_case(run.case)).outcome)
    if needs_comparison_alone(run):
        run = replace(
            run, solo_outcome=play(msgspec.structs.replace(run.case, concurrent=1)).outcome
        )
    return run


def tests_nothing(run: Run) -> bool:
    """Whether a call raised before it sent anything, as it does in usual behavior too."""
    control = run.control_run
    return sent_nothing(run) and control is not None and control.kind != "returned"


def replay(harness: Harness, driver: Driver, finding: Finding, limits: Limits) -> Finding:
    """Play a finding's case again: the finding as it is now, `confirmed` 0 times if its rule is kept.

    Raises ClientError if the client cannot be run, or is a worker that is none.
    """
    if isinstance(driver, WorkerDriver):
        plain = next(fixed_cases(harness.contract, [finding.case.model], None))
        check_worker(
            plain,
            driver,
            lambda case, driver, idle=None: harness.play(case, driver, limits, idle=idle),
        )
    for _ in range(most_plays(finding.case)):
        run = with_control(
            harness.play(finding.case, driver, limits, patient=True),
            lambda control: harness.play(control, driver, limits, patient=True),
        )
        breaches = find_breaches(run)
        found = breach_of(finding.rule, finding.cause, breaches) or breach_of(
            finding.rule, (), breaches
        )
        if found is not None:
            return Finding.of(found, run, 1)
        check_reached(run)
    rule = RULES[finding.rule]
    return Finding.of(
        Breach(rule.code, rule.severity, f"The rule was kept. It says: {rule.demand}"), run, 0
    )


def most_plays(case: Case) -> int:
    """How often a case is played before its rule is held to be kept."""
    return PLAYS_AT_ONCE if case.concurrent > 1 else 1


def breach_of(rule: str, cause: Sequence[str], breaches: Sequence[Breach]) -> Breach | None:
    """The breach of a rule for that cause, or for a part of it. No cause, as in older baselines, is any."""
    found = (breach for breach in breaches if breach.rule == rule)
    return next((breach for breach in found if not cause or set(breach.cause) <= set(cause)), None)
