"""Confirms breaches that a hunt has seen, and shrinks their cases, with nothing else running."""

from __future__ import annotations

from collections.abc import Sequence

from mockserver.check.generate.shrink import shrink
from mockserver.check.hunt.budget import Budget
from mockserver.check.hunt.case_player import CasePlayer
from mockserver.check.hunt.client_profile import ClientProfile
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.open_rules import OpenRules
from mockserver.check.hunt.plan import Plan
from mockserver.check.hunt.replay import POLLS_AFTER_END, breach_of
from mockserver.check.model import Case, Run
from mockserver.check.report.findings import Finding, Report
from mockserver.check.rules.registry import find_breaches
from mockserver.check.rules.rule import Breach
from mockserver.errors import MockServerError
from mockserver.scenarios.timeline import TERMINAL

MAX_SHRINK_RUNS = 60  # for each finding
KEEPS_RETRYING = "MC402"
SILENT_CONNECTION = "MC406"  # the rule whose cases last as long as the deadline
# Confirming a hang takes as long as a deadline, so none is confirmed after this multiple of the
# budget.
MAX_OVERTIME = 1.2
# A client that retries slowly is watched for this multiple of the deadline before it counts as one
# that never stops.
RETRY_WATCH = 3


class Confirmation:
    """Adds to the report what is confirmed on a double that has played nothing else.

    So nothing is reported that a replay would not show.
    """

    def __init__(
        self,
        harness: Harness,
        plan: Plan,
        *,
        player: CasePlayer,
        profile: ClientProfile,
        budget: Budget,
        open_rules: OpenRules,
        report: Report,
    ) -> None:
        self._harness = harness
        self._plan = plan
        self._limits = plan.limits
        self._player = player
        self._profile = profile
        self._budget = budget
        self._open_rules = open_rules
        self._report = report

    def confirm_and_shrink(self, breach: Breach, run: Run) -> None:
        """Play the case of a run again; if it breaks the rule again, report its smallest case.

        Raises ClientError if the client can no longer be run, DoubleError if the double broke its
        contract.
        """
        if not self._open_rules.accepts(breach):
            return

        hung = run.outcome.kind == "hung"
        timeout = self._timeout_to_confirm(breach, run)
        if hung and self._is_too_late(timeout):
            self._report.unconfirmed = sorted({*self._report.unconfirmed, breach.rule})
            return
        self._profile.hangs |= hung and breach.rule != SILENT_CONNECTION

        linger = self._profile.linger if breach.rule == POLLS_AFTER_END else 0.0
        fresh_run = self._player.play_fresh(
            run.case, f"confirming {breach.rule}", timeout, linger=linger
        )
        self._profile.note_operations(fresh_run)
        confirmed = breach_of(breach.rule, breach.cause, find_breaches(fresh_run))

        if fresh_run.outcome.kind == "hung" and fresh_run.machine_overloaded:
            self._report.overloaded += 1
        elif confirmed is not None:
            self._add(self._smallest_finding(confirmed, fresh_run))
        elif hung and fresh_run.outcome.kind != "hung":
            # The call ends when nothing else is running: the hang was due to the busy machine, and
            # only what the fresh run breaks is held against the client.
            for other in self._open_rules.filter(find_breaches(fresh_run)):
                self.confirm_and_shrink(other, fresh_run)
        else:
            self._note_flake(breach)

    def _is_too_late(self, timeout: float) -> bool:
        """Whether there is no time left to wait for another hang."""
        is_long = timeout > self._limits.longest
        limit = self._budget.seconds * (1 if is_long else MAX_OVERTIME)
        return self._budget.elapsed > limit

    def _timeout_to_confirm(self, breach: Breach, run: Run) -> float:
        """Seconds that the confirmation of a breach may take."""
        if run.outcome.kind != "hung":
            return self._limits.longest
        if _retries_slowly(breach, run):
            return RETRY_WATCH * self._limits.longest

        # A client that hung to the deadline with nothing else running need not be given as long
        # again.
        reached_deadline = run.timeout >= self._limits.longest
        was_alone = breach.rule == SILENT_CONNECTION or self._plan.jobs == 1
        return (
            self._profile.short_timeout if reached_deadline and was_alone else self._limits.longest
        )

    def _smallest_finding(self, breach: Breach, run: Run) -> Finding:
        """The finding of a confirmed breach, with the smallest case that shows it again."""
        finding = Finding.of(breach, run, 2)
        if breach.rule == SILENT_CONNECTION:
            return finding  # small already, and each play would last as long as the deadline

        smallest = self._shrink(finding)
        if smallest.case.key == run.case.key:
            return finding

        hangs = run.outcome.kind == "hung"
        slow = hangs and _retries_slowly(breach, run)
        timeout = (RETRY_WATCH if slow else 1) * self._limits.longest
        return self._reconfirm(smallest, timeout, hangs=hangs) or finding

    def _shrink(self, finding: Finding) -> Finding:
        """The finding with the smallest case that breaks its rule, within runs and budget."""
        best = finding
        runs = 0
        activity = f"shrinking {finding.rule}"

        def first_failing(candidates: Sequence[Case]) -> Case | None:
            nonlocal best, runs
            allowed = [case for case in candidates if self._is_allowed(case)]
            allowed = allowed[: MAX_SHRINK_RUNS - runs]
            if not allowed or self._budget.is_spent:
                return None

            plays = [self._player.start(case, f"{activity}: {case.key!r}") for case in allowed]
            for case, play in zip(allowed, plays, strict=True):
                run = self._player.finish(play, activity)
                runs += 1
                breach = breach_of(finding.rule, best.cause, find_breaches(run))
                if breach is None:
                    continue

                best = Finding.of(breach, run, 2)
                # None of the others may still be running when the next candidates are played.
                for other in plays:
                    self._player.finish(other, activity)
                return case
            return None

        shrink(finding.case, first_failing, self._plan.jobs)
        return best

    def _is_allowed(self, case: Case) -> bool:
        """Whether the contract allows a case, and it ends by itself or the client gives up."""
        try:
            scenario = self._harness.check(case)
        except MockServerError:
            return False
        return scenario.lifecycle[-1].status in TERMINAL or self._limits.client_timeout is not None

    def _reconfirm(self, finding: Finding, timeout: float, *, hangs: bool) -> Finding | None:
        """The finding after a play on a new double; None if it does not recur or time is short."""
        if self._budget.elapsed + (timeout if hangs else 0) > self._budget.seconds:
            return None
        linger = self._profile.linger if finding.rule == POLLS_AFTER_END else 0.0
        run = self._player.play_fresh(
            finding.case, f"confirming {finding.rule}", timeout, linger=linger
        )
        breach = breach_of(finding.rule, finding.cause, find_breaches(run))
        return None if breach is None else Finding.of(breach, run, 2)

    def _add(self, finding: Finding) -> None:
        self._open_rules.note_finding(finding.breach)
        if finding.rule in self._report.flaky:
            self._report.flaky.remove(finding.rule)

        is_error = finding.severity == "error"
        (self._report.findings if is_error else self._report.warnings).append(finding)

    def _note_flake(self, breach: Breach) -> None:
        self._open_rules.note_flake(breach)
        if breach.rule not in self._report.flaky:
            self._report.flaky.append(breach.rule)


def _retries_slowly(breach: Breach, run: Run) -> bool:
    """Whether a client was still retrying at its timeout, too slowly to be cut off as a runaway."""
    return breach.rule == KEEPS_RETRYING and not run.cut_off
