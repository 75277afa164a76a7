"""The hunt: plays fixed cases, then sampled ones, in parallel, and judges them in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.hunt.budget import Budget, BudgetSpent
from mockserver.check.hunt.case_player import CasePlayer, plain_case
from mockserver.check.hunt.case_source import CaseSource
from mockserver.check.hunt.client_profile import ClientProfile
from mockserver.check.hunt.confirm import Confirmation
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.open_rules import OpenRules
from mockserver.check.hunt.plan import Plan, check_plan, model_names
from mockserver.check.hunt.pool import PlayerPool
from mockserver.check.hunt.preflight import check_client
from mockserver.check.hunt.replay import breach_of, max_plays, tested_nothing
from mockserver.check.model import Case, ClientError, Run
from mockserver.check.progress import Listener, Progress
from mockserver.check.report.findings import Finding, Report
from mockserver.check.report.summary import untested_runs
from mockserver.check.rules.evidence import reason_given, retry_after_exceeds_deadline
from mockserver.check.rules.registry import find_breaches
from mockserver.check.rules.rule import Breach
from mockserver.clock import timestamp, wall_time
from mockserver.errors import MockServerError

TICK = 0.05  # seconds between two looks at plays that are still running
MAX_AHEAD = 16  # cases queued ahead of the one being judged, for each job
STRAGGLER = 1.0  # seconds after which players are no longer kept idle for the sake of one play
SAMPLE_AHEAD = 40  # fixed cases left to yield when sampling starts
SEARCHING = "searching"


@dataclass(slots=True, eq=False)
class _QueuedCase:
    """A case in the order of judgment. It has no play while the client seems not to need it."""

    case: Case
    fixed: bool
    number: int
    play: Future[Run] | None = None
    started: float = 0  # seconds since the start of the hunt

    @property
    def is_playing(self) -> bool:
        return self.play is not None and not self.play.done()


class Hunt:
    """One hunt for the rules that a client breaks.

    Cases are played in parallel, and judged one by one in the order in which they were sampled. A
    breach is confirmed and shrunk with nothing else running. So the findings do not depend on how
    many cases are played in parallel.

    Raises MockServerError if the plan makes no sense.
    """

    def __init__(
        self, harness: Harness, driver: Driver, plan: Plan, listen: Listener = lambda progress: None
    ) -> None:
        check_plan(plan, harness.contract)
        self._harness = harness
        self._driver = driver
        self._plan = plan
        self._listen = listen
        self._models = plan.models or model_names(harness.contract)
        self._in_process = isinstance(driver, CallableDriver)

        self.report = Report(
            max_runs=plan.max_runs,
            seed=plan.seed,
            models=self._models,
            not_looked_for=tuple(sorted(plan.ignore)),
            process_per_call=isinstance(driver, ProcessDriver),
            contract=harness.contract.title,
            date=timestamp(wall_time())[: len("2026-01-01T00:00")].replace("T", " ") + " UTC",
        )
        self._source = CaseSource(harness.catalogue, harness.contract, plan, self._models)
        self._budget = Budget(plan.budget)
        self._open_rules = OpenRules(plan.ignore)
        self._profile = ClientProfile(harness.contract, plan.limits)
        self._pool = PlayerPool(harness, driver, plan.jobs)
        self._player = CasePlayer(
            harness, driver, plan.limits, self._pool, self._profile, self._report_progress
        )
        self._confirmation = Confirmation(
            harness,
            plan,
            player=self._player,
            profile=self._profile,
            budget=self._budget,
            open_rules=self._open_rules,
            report=self.report,
        )
        self._queue: deque[_QueuedCase] = deque()
        self._playing: set[_QueuedCase] = set()

    def run(self) -> Report:
        """Hunt until the budget is spent, all cases are played, or Ctrl-C is pressed.

        Raises ClientError if the client cannot be run, or stops working during the hunt;
        DoubleError if the double broke its contract; MockServerError if the budget is too short.
        """
        try:
            plain = [plain_case(self._harness.contract, model) for model in self._models]
            check_client(plain, self._driver, self._player.play_at_start, self._is_reportable)
            with self._pool, ExitStack() as stack:
                self._run_cases(self._cases(stack))
        except KeyboardInterrupt:
            self.report.interrupted = True

        self._check_result()
        self._complete_report()
        return self.report

    def _check_result(self) -> None:
        report = self.report
        if not report.runs and not report.interrupted:
            raise MockServerError(
                f"the budget of {self._plan.budget:g} s was spent before a single case had been "
                "judged; choose a longer --budget"
            )
        if 2 * report.untested > report.runs and not report.findings:
            raise ClientError(
                f"the client stopped working during the hunt. {untested_runs(report)}"
            )

    def _complete_report(self) -> None:
        report = self.report
        groups = (report.findings, report.warnings, report.accepted)
        broken = {finding.rule for group in groups for finding in group}

        report.client_version = report.client_version or self._profile.version
        report.fixed = sorted(set(report.fixed) - broken)
        report.seconds = self._budget.elapsed
        for group in groups:
            group.sort(key=lambda finding: (finding.rule, finding.severity == "warning"))

    def _cases(self, stack: ExitStack) -> Iterator[_QueuedCase]:
        """The fixed cases, then sampled ones."""
        fixed = self._source.fixed()
        max_runs = self._plan.max_runs
        sampled: Iterable[Case] = ()

        for number, case in enumerate(fixed):
            # Sampling takes a while, so a thread begins with it while fixed cases are played.
            is_time = len(fixed) - number == SAMPLE_AHEAD and len(fixed) < 2 * max_runs
            if is_time and not self._in_process:
                sampled = stack.enter_context(self._source.background_sampler())
            if self._source.is_valid(case):
                yield _QueuedCase(case, True, number)

        # A client in this process must not run meanwhile: Hypothesis seeds the `random` module
        # while it samples, and warns if anybody else uses that.
        if self._in_process:
            wait([queued.play for queued in self._playing if queued.play is not None])
            sampled = self._source.sample(max_runs - self.report.runs)

        for number, case in enumerate(sampled, len(fixed)):
            yield _QueuedCase(self._source.as_planned(case), False, number)

    def _run_cases(self, cases: Iterator[_QueuedCase]) -> None:
        """Play all cases, and judge them in order."""
        try:
            self._replay_baseline()
            while self._top_up(cases):
                queued = self._queue[0]
                # Decided only now: earlier cases may have shown that the client uses an operation.
                if queued.fixed and not self._profile.is_relevant(queued.case):
                    self._queue.popleft()
                    continue

                run = self._wait_for(queued, cases)
                if run.machine_overloaded and self._plan.jobs > 1:
                    self._quiesce(cases)
                    longest = self._plan.limits.longest
                    run = self._player.play_alone(run.case, SEARCHING, longest)

                breaches = self._judge(run)
                self._queue.popleft()
                if breaches:
                    self._quiesce(cases)
                    for breach in breaches:
                        self._confirm(breach, run)
        except BudgetSpent:
            self._judge_finished_plays()

    def _top_up(self, cases: Iterator[_QueuedCase]) -> bool:
        """Give the next cases to idle players. Returns whether any case is left to judge."""
        self._drop_finished()
        while len(self._playing) < self._plan.jobs or not self._queue:
            started = sum(queued.play is not None for queued in self._queue)
            enough = self.report.runs + started >= self._plan.max_runs
            if enough or len(self._queue) >= MAX_AHEAD * self._plan.jobs:
                break
            queued = next(cases, None)
            if queued is None:
                break

            self._queue.append(queued)
            if not queued.fixed or self._profile.is_relevant(queued.case):
                self._start(queued)
        return bool(self._queue) and self.report.runs < self._plan.max_runs

    def _start(self, queued: _QueuedCase) -> None:
        queued.started = self._budget.elapsed
        # A client that goes on after its call does so in the plain case too.
        linger = self._profile.linger if queued.number == 0 else 0.0
        queued.play = self._player.start(queued.case, f"case {queued.number}", linger=linger)
        self._playing.add(queued)

    def _drop_finished(self) -> None:
        self._playing = {queued for queued in self._playing if queued.is_playing}

    def _wait_for(self, queued: _QueuedCase, cases: Iterator[_QueuedCase]) -> Run:
        """Wait for the run of a case, and keep idle players busy. Raises BudgetSpent."""
        if queued.play is None:
            self._start(queued)
        assert queued.play is not None

        while not wait([queued.play], 0 if queued.play.done() else TICK).done:
            self._top_up(cases)
            self._report_progress(SEARCHING)
            self._budget.check()
        return queued.play.result()

    def _quiesce(self, cases: Iterator[_QueuedCase]) -> None:
        """Wait until no case is being played.

        A straggler, such as a hang that lasts to its deadline, would keep all other players idle.
        As long as there is one, they get further cases.
        """
        while self._playing:
            elapsed = self._budget.elapsed
            if any(elapsed - queued.started > STRAGGLER for queued in self._playing):
                self._top_up(cases)

            plays = [queued.play for queued in self._playing if queued.play is not None]
            wait(plays, TICK, FIRST_COMPLETED)
            self._drop_finished()
            self._report_progress(SEARCHING)
            if self._budget.is_spent:
                self._stop_plays()

    def _stop_plays(self) -> None:
        """Stop the plays that are still running, as if they had never started."""
        stopped = [queued for queued in self._queue if queued.is_playing]
        self._pool.end_plays()
        for queued in stopped:
            queued.play = None
        self._playing.clear()

    def _judge(self, run: Run) -> list[Breach]:
        """Count a run. Returns its breaches of rules that are still open."""
        report = self.report
        report.runs += 1
        self._profile.note_operations(run)

        breaches = find_breaches(run)
        if run.outcome.kind == "hung" and not breaches and not retry_after_exceeds_deadline(run):
            report.undecided += 1
        if tested_nothing(run):
            report.untested += 1
            report.client_error = reason_given(run)

        self._report_progress(SEARCHING)
        return self._open_rules.filter(breaches)

    def _judge_finished_plays(self) -> None:
        """At the end of the budget, judge the runs that were played ahead.

        Each rule without a finding is still confirmed once, which may take as long as a deadline.
        """
        self._stop_plays()
        report = self.report
        plays = [queued.play for queued in self._queue if queued.play is not None]
        reported = {
            (finding.rule, finding.severity) for finding in (*report.findings, *report.warnings)
        }

        for play in plays[: self._plan.max_runs - report.runs]:
            run = play.result()
            for breach in self._judge(run):
                if (breach.rule, breach.severity) not in reported:
                    reported.add((breach.rule, breach.severity))
                    self._confirm(breach, run)

    def _confirm(self, breach: Breach, run: Run) -> None:
        self._confirmation.confirm_and_shrink(breach, run)
        self._report_progress(SEARCHING)

    def _replay_baseline(self) -> None:
        """Play the cases of the baseline: breaches that recur are accepted, others are fixed.

        The time does not count toward the budget: an accepted hang must not keep other rules from
        being checked.
        """
        with self._budget.paused():
            for finding in self._plan.known:
                if self._open_rules.includes(finding.rule):
                    self._replay_known(finding)

    def _replay_known(self, finding: Finding) -> None:
        for _ in range(max_plays(finding.case)):
            run = self._player.play_alone(finding.case, f"replaying {finding.rule}")
            breach = breach_of(finding.rule, finding.cause, find_breaches(run))
            if breach is not None:
                break
        self._profile.hangs |= run.outcome.kind == "hung"

        if breach is None:
            self.report.fixed.append(finding.rule)
        # A warning in the baseline does not excuse an error.
        elif self._open_rules.accepts(breach) and (
            breach.severity == "warning" or finding.severity == "error"
        ):
            self._open_rules.note_accepted(breach)
            self.report.accepted.append(Finding.of(breach, run, 1))

    def _is_reportable(self, run: Run) -> bool:
        """Whether a run breaks a rule that is neither ignored nor in the baseline."""
        known = {(finding.rule, finding.cause) for finding in self._plan.known}
        return any(
            breach.severity == "error" and (breach.rule, breach.cause) not in known
            for breach in self._open_rules.filter(find_breaches(run))
        )

    def _report_progress(self, activity: str) -> None:
        findings = (*self.report.findings, *self.report.warnings)
        self._listen(
            Progress(
                runs=self.report.runs,
                max_runs=self._plan.max_runs,
                broken_rules=tuple(sorted({finding.rule for finding in findings})),
                elapsed=self._budget.elapsed,
                budget=self._budget.seconds,
                doing=activity,
            )
        )
