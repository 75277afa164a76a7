"""The hunt: fixed cases first, then drawn ones; what breaks a rule is confirmed, shrunk, and then muted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings

from mockserver.check.cases import Case, Run, control_case
from mockserver.check.catalogue import fixed_cases
from mockserver.check.drivers import Driver, WorkerDriver
from mockserver.check.findings import Finding, Report
from mockserver.check.harness import Harness, Limits
from mockserver.check.preflight import check_client, check_worker
from mockserver.check.rule import Breach
from mockserver.check.rules import RULES, find_breaches
from mockserver.check.shrinker import shrink
from mockserver.check.strategies import cases
from mockserver.clock import SECOND, wall_time
from mockserver.contract import Contract
from mockserver.errors import MockServerError, ScenarioError
from mockserver.lifecycle import TERMINAL

SHRINK_RUNS = 60  # a rule
SHRINK_SECONDS = 5.0  # a rule
ENDLESS_RUNS = 4  # at least, of a client that declares a timeout
MAX_FLAKES = 3  # of a rule; after that it is left alone
MIN_TIMEOUT = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """How far a hunt goes, and for what.

    `models` are all of the contract's if none is named. `budget` is in seconds of wall time; `ignore` holds rules that
    are not looked for, `known` the findings of a baseline.
    """

    models: tuple[str, ...] = ()
    max_runs: int = 300
    budget: float = 30.0
    seed: int = 0
    ignore: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    known: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a hunt stands: `elapsed` of its `budget`, in seconds, and what it is `doing`."""

    runs: int
    max_runs: int
    broken_rules: tuple[str, ...]
    elapsed: float
    budget: float
    doing: str


Listener = Callable[[Progress], None]


class _BudgetSpent(BaseException):
    """The budget is spent. Not an Exception, so that Hypothesis lets it through."""


class Hunt:
    """One hunt for the rules that a client breaks. Raises MockServerError if the plan makes no sense."""

    def __init__(self, harness: Harness, driver: Driver, plan: Plan, listen: Listener = lambda progress: None) -> None:
        _check(plan, harness.contract)
        self._harness, self._driver, self._plan, self._listen = harness, driver, plan, listen
        self._models = plan.models or _models(harness.contract)
        self.report = Report(max_runs=plan.max_runs, seed=plan.seed, models=self._models)
        self._muted = set(plan.ignore)
        self._flakes: dict[str, int] = {}
        self._touched: set[str] = set()
        self._longest = 0.0
        self._hangs = False
        self._began = wall_time()

    def run(self) -> Report:
        """Hunt until the budget is spent, the runs are done, or Ctrl-C. Raises ClientError, DoubleError."""
        try:
            models = self._models
            check_client(next(fixed_cases(self._harness.contract, models, None)), self._driver, self._play_at_start)
            self._replay_baseline()
            for case in fixed_cases(self._harness.contract, self._models, self._plan.limits.client_timeout):
                if self._fits(case):
                    self._try(case)
            self._explore()
        except _BudgetSpent:
            pass
        except KeyboardInterrupt:
            self.report.interrupted = True
        breaches = {finding.rule for finding in (*self.report.findings, *self.report.advice)}
        self.report.fixed = [rule for rule in self.report.fixed if rule not in breaches]
        self.report.seconds = self._elapsed()
        for found in (self.report.findings, self.report.advice, self.report.accepted):
            found.sort(key=lambda finding: finding.rule)
        return self.report

    def _replay_baseline(self) -> None:
        """See which findings of the baseline are still there."""
        for finding in self._plan.known:
            if finding.rule in self._muted:
                continue
            self._muted.add(finding.rule)
            run = self._play(finding.case, f"looking for {finding.rule} again")
            breaches = _breach_of(finding.rule, self._breaches_of(run))
            if breaches is None:
                self.report.fixed.append(finding.rule)
                self._muted.discard(finding.rule)
            else:
                self.report.accepted.append(Finding.of(breaches, run, 1))

    def _explore(self) -> None:
        left = self._plan.max_runs - self.report.runs
        if left <= 0:
            return

        @hypothesis.seed(self._plan.seed)
        @settings(
            max_examples=left,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(cases(self._harness.catalogue, self._harness.contract, self._models))
        def explore(case: Case) -> None:
            try:
                self._try(case)
            except MockServerError as reason:
                raise _Abort(reason) from None

        try:
            explore()
        except _Abort as stopped:
            raise stopped.reason from None

    def _fits(self, case: Case) -> bool:
        """Whether a fixed case is valid in this contract, and about something that this client does."""
        try:
            scenario = self._harness.catalogue.parse(case.scenario)
        except ScenarioError:
            return False
        streams = {operation.operation_id for operation in self._harness.contract.of_role("stream")}
        about = set(scenario.faults) | (streams if "stream" in case.scenario else set())
        return not about or bool(about & self._touched)

    def _try(self, case: Case) -> None:
        """Play a case once, and pursue each rule that it breaks."""
        if self.report.runs >= self._plan.max_runs:
            raise _BudgetSpent
        run = self._play(case, "looking")
        self.report.runs += 1
        self._report_progress("looking")
        breaches = self._breaches_of(run)
        if run.outcome.kind == "hung" and not breaches:
            self.report.undecided += 1
        for found in breaches:
            if found.rule not in self._muted:
                self._confirm_and_shrink(found, run)

    def _breaches_of(self, run: Run) -> list[Breach]:
        return find_breaches_with_control(run, lambda control_run: self._play(control_run, "comparing"))

    def _confirm_and_shrink(self, found: Breach, run: Run) -> None:
        """Confirm a broken rule, shrink its case, and write it down."""
        rule = found.rule
        self._hangs = self._hangs or run.outcome.kind == "hung"
        again = self._play(run.case, f"confirming {rule}", at_any_cost=True)
        confirmed = _breach_of(rule, self._breaches_of(again))
        if confirmed is None:
            self._note_flake(rule)
            return
        self._muted.add(rule)
        short = again.outcome.kind == "hung" and again.timeout < run.timeout
        smallest = self._smallest(Finding.of(confirmed, again, 2))
        finding = self._reconfirm(smallest, timeout=run.timeout if short else None)
        if finding is None:  # no time, or not so sure: the case as it was met has been seen twice
            finding = Finding.of(found, run, 2)
        if rule in self.report.flaky:
            self.report.flaky.remove(rule)
        (self.report.findings if finding.severity == "error" else self.report.advice).append(finding)
        self._report_progress("looking")

    def _note_flake(self, rule: str) -> None:
        self._flakes[rule] = self._flakes.get(rule, 0) + 1
        if rule not in self.report.flaky:
            self.report.flaky.append(rule)
        if self._flakes[rule] >= MAX_FLAKES:
            self._muted.add(rule)

    def _reconfirm(self, finding: Finding, timeout: float | None) -> Finding | None:
        """The finding of the smallest case, played again, with all the time that it is due."""
        if timeout is not None and self._elapsed() + timeout > self._plan.budget:
            return None
        try:
            run = self._play(finding.case, f"confirming {finding.rule}", timeout=timeout)
            breaches = _breach_of(finding.rule, self._breaches_of(run))
        except _BudgetSpent:
            return None
        return None if breaches is None else Finding.of(breaches, run, 2)

    def _smallest(self, finding: Finding) -> Finding:
        """The finding with its case shrunk, as far as runs and time go."""
        best = finding
        runs, began = 0, wall_time()
        doing = f"shrinking {finding.rule}"

        def played(case: Case) -> Finding | None:
            run = self._play(case, doing)
            breaches = _breach_of(finding.rule, self._breaches_of(run))
            return None if breaches is None else Finding.of(breaches, run, 2)

        def still_fails(case: Case) -> bool:
            nonlocal best, runs
            over = runs >= SHRINK_RUNS or (wall_time() - began) / SECOND > SHRINK_SECONDS
            if over or self._elapsed() > self._plan.budget or not self._allowed(case):
                return False
            runs += 1
            smaller = played(case)
            best = smaller or best
            return smaller is not None

        with suppress(_BudgetSpent):  # what it was shrunk to so far counts
            shrink(finding.case, still_fails)
        return best

    def _allowed(self, case: Case) -> bool:
        try:
            scenario = self._harness.check(case)
        except MockServerError:
            return False
        return scenario.lifecycle[-1].status in TERMINAL or self._plan.limits.client_timeout is not None

    def _play_at_start(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        self._report_progress("starting the client")
        run = self._harness.play(case, driver, self._plan.limits, idle=idle)
        self._remember(run)
        return run

    def _play(self, case: Case, doing: str, *, at_any_cost: bool = False, timeout: float | None = None) -> Run:
        if self._elapsed() > self._plan.budget and not at_any_cost:
            raise _BudgetSpent
        self._report_progress(doing)
        run = self._harness.play(case, self._driver, self._plan.limits, timeout or self._timeout())
        self._remember(run)
        return run

    def _remember(self, run: Run) -> None:
        """Note which operations this client uses, and how long a call of it has taken at most."""
        self._touched |= {_family(run, exchange.operation_id) for exchange in run.exchanges}
        self._touched |= {str(exchange.operation_id) for exchange in run.exchanges}
        if run.outcome.kind != "hung":
            self._longest = max(self._longest, run.seconds)

    def _timeout(self) -> float:
        """Seconds that the next run may take. A client known to hang is not waited for as long again."""
        longest = self._plan.limits.longest
        return min(longest, MIN_TIMEOUT + 2 * self._longest) if self._hangs else longest

    def _elapsed(self) -> float:
        return (wall_time() - self._began) / SECOND

    def _report_progress(self, doing: str) -> None:
        broken_rules = tuple(sorted({finding.rule for finding in (*self.report.findings, *self.report.advice)}))
        self._listen(
            Progress(
                runs=self.report.runs,
                max_runs=self._plan.max_runs,
                broken_rules=broken_rules,
                elapsed=self._elapsed(),
                budget=self._plan.budget,
                doing=doing,
            )
        )


def find_breaches_with_control(run: Run, play: Callable[[Case], Run]) -> list[Breach]:
    """What a run broke; a control run without variety is played where that decides."""
    trouble = run.outcome.kind != "returned" and not run.cut_off
    control_run = control_case(run.case)
    return find_breaches(
        run.with_control_run(play(control_run).outcome) if trouble and control_run != run.case else run
    )


def replay(harness: Harness, driver: Driver, finding: Finding, limits: Limits) -> Finding:
    """Play a finding's case again: the finding as it is now, `confirmed` 0 times if its rule is kept.

    Raises ClientError if the client cannot be run, or is a worker that is none.
    """
    if isinstance(driver, WorkerDriver):
        plain = next(fixed_cases(harness.contract, [finding.case.model], None))
        check_worker(plain, driver, lambda case, driver, idle=None: harness.play(case, driver, limits, idle=idle))
    run = harness.play(finding.case, driver, limits)
    found = _breach_of(
        finding.rule, find_breaches_with_control(run, lambda control_run: harness.play(control_run, driver, limits))
    )
    if found is not None:
        return Finding.of(found, run, 1)
    rule = RULES[finding.rule]
    return Finding.of(Breach(f"The rule was kept. It says: {rule.demand}", rule=rule.code), run, 0)


class _Abort(BaseException):
    """Carries an error past Hypothesis, which would take it for a failing example."""

    def __init__(self, reason: MockServerError) -> None:
        self.reason = reason


def _models(contract: Contract) -> tuple[str, ...]:
    return tuple(str(operation.model) for operation in contract.of_role("create"))


def _check(plan: Plan, contract: Contract) -> None:
    """Make sure that a plan names only what there is. Raises MockServerError."""
    known = _models(contract)
    if not known:
        raise MockServerError(
            f"contract {contract.name}: nothing in it creates predictions, so there is nothing to check"
        )
    if unknown := [model for model in plan.models if model not in known]:
        raise MockServerError(f"the contract has no model {unknown[0]}; it has {', '.join(known)}")
    if unknown := [code for code in plan.ignore if code not in RULES]:
        raise MockServerError(f"there is no rule {unknown[0]}; `mockserver rules` lists them")
    limits = plan.limits
    if limits.client_timeout is not None and plan.budget < ENDLESS_RUNS * limits.longest:
        raise MockServerError(
            f"a client timeout of {limits.client_timeout:g} s is waited for {ENDLESS_RUNS} times, so a budget of at "
            f"least {ENDLESS_RUNS * limits.longest:g} s is needed, not {plan.budget:g}"
        )


def _breach_of(rule: str, breaches: Sequence[Breach]) -> Breach | None:
    return next((found for found in breaches if found.rule == rule), None)


def _family(run: Run, operation_id: str | None) -> str:
    operation = run.contract.by_id.get(operation_id or "")
    return operation.family if operation is not None else ""
