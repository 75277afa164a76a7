"""The hunt: plays fixed cases, then drawn ones; a broken rule is confirmed, shrunk, and not looked for again."""

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

SHRINK_RUNS = 60  # for each rule
SHRINK_SECONDS = 5.0  # for each rule
ENDLESS_RUNS = 4  # the fixed cases that only the client's own timeout ends
MAX_FLAKES = 3  # of a rule; after that it is not looked for
MIN_TIMEOUT = 1.0  # seconds that a client which is known to hang is given


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a hunt goes on, and what it looks for.

    `models` are all of the contract's if none is named. `budget` is in seconds of wall time; `ignore` holds rules that
    are not looked for, `known` the findings of the baseline.
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
    """The runs or the seconds are spent. Not an Exception: Hypothesis would take that for a failing example."""


class Hunt:
    """One hunt for the rules that a client breaks. Raises MockServerError if the plan makes no sense."""

    def __init__(self, harness: Harness, driver: Driver, plan: Plan, listen: Listener = lambda progress: None) -> None:
        _check_plan(plan, harness.contract)
        self._harness, self._driver, self._plan, self._listen = harness, driver, plan, listen
        self._models = plan.models or _model_names(harness.contract)
        self.report = Report(max_runs=plan.max_runs, seed=plan.seed, models=self._models)
        self._muted = set(plan.ignore)
        self._flakes: dict[str, int] = {}
        self._used_operations: set[str] = set()
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
                if self._is_relevant(case):
                    self._judge_case(case)
            self._explore()
        except _BudgetSpent:
            pass
        except KeyboardInterrupt:
            self.report.interrupted = True
        broken = {finding.rule for finding in (*self.report.findings, *self.report.advice)}
        self.report.fixed = [rule for rule in self.report.fixed if rule not in broken]
        self.report.seconds = self._elapsed()
        for found in (self.report.findings, self.report.advice, self.report.accepted):
            found.sort(key=lambda finding: finding.rule)
        return self.report

    def _replay_baseline(self) -> None:
        """Play the cases of the baseline: their rules are accepted where still broken, and looked for where not."""
        for finding in self._plan.known:
            if finding.rule in self._muted:
                continue
            self._muted.add(finding.rule)
            run = self._play(finding.case, f"looking for {finding.rule} again")
            breach = _breach_of(finding.rule, self._breaches_of(run))
            if breach is None:
                self.report.fixed.append(finding.rule)
                self._muted.discard(finding.rule)
            else:
                self.report.accepted.append(Finding.of(breach, run, 1))

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
                self._judge_case(case)
            except MockServerError as reason:
                raise _Abort(reason) from None

        try:
            explore()
        except _Abort as stopped:
            raise stopped.reason from None

    def _is_relevant(self, case: Case) -> bool:
        """Whether a fixed case is valid in this contract, and about operations that this client has used."""
        try:
            scenario = self._harness.catalogue.parse(case.scenario)
        except ScenarioError:
            return False
        streams = {operation.operation_id for operation in self._harness.contract.of_role("stream")}
        about = set(scenario.faults) | (streams if "stream" in case.scenario else set())
        return not about or bool(about & self._used_operations)

    def _judge_case(self, case: Case) -> None:
        """Play a case once; confirm and shrink each broken rule that is new."""
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
        return find_breaches_with_control(run, lambda control: self._play(control, "comparing"))

    def _confirm_and_shrink(self, found: Breach, run: Run) -> None:
        """Confirm a broken rule by a second run, shrink its case, and add the finding to the report."""
        rule = found.rule
        self._hangs = self._hangs or run.outcome.kind == "hung"
        again = self._play(run.case, f"confirming {rule}", at_any_cost=True)
        confirmed = _breach_of(rule, self._breaches_of(again))
        if confirmed is None:
            self._note_flake(rule)
            return
        self._muted.add(rule)
        short = again.outcome.kind == "hung" and again.timeout < run.timeout
        smallest = self._shrink(Finding.of(confirmed, again, 2))
        finding = self._reconfirm(smallest, timeout=run.timeout if short else None)
        if finding is None:  # the smallest case was not confirmed; the case itself has been, twice
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
        """The finding after one more run of its case, with the full timeout if it was shrunk with less; or None."""
        if timeout is not None and self._elapsed() + timeout > self._plan.budget:
            return None
        try:
            run = self._play(finding.case, f"confirming {finding.rule}", timeout=timeout)
            breach = _breach_of(finding.rule, self._breaches_of(run))
        except _BudgetSpent:
            return None
        return None if breach is None else Finding.of(breach, run, 2)

    def _shrink(self, finding: Finding) -> Finding:
        """The finding with the smallest case that breaks its rule, as far as runs and time allow."""
        best = finding
        runs, began = 0, wall_time()
        doing = f"shrinking {finding.rule}"

        def played(case: Case) -> Finding | None:
            run = self._play(case, doing)
            breach = _breach_of(finding.rule, self._breaches_of(run))
            return None if breach is None else Finding.of(breach, run, 2)

        def still_fails(case: Case) -> bool:
            nonlocal best, runs
            over = runs >= SHRINK_RUNS or (wall_time() - began) / SECOND > SHRINK_SECONDS
            if over or self._elapsed() > self._plan.budget or not self._is_allowed(case):
                return False
            runs += 1
            smaller = played(case)
            best = smaller or best
            return smaller is not None

        with suppress(_BudgetSpent):  # the smallest case so far is still a result
            shrink(finding.case, still_fails)
        return best

    def _is_allowed(self, case: Case) -> bool:
        try:
            scenario = self._harness.check(case)
        except MockServerError:
            return False
        return scenario.lifecycle[-1].status in TERMINAL or self._plan.limits.client_timeout is not None

    def _play_at_start(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        def report() -> None:
            self._report_progress("starting the client")

        report()
        run = self._harness.play(case, driver, self._plan.limits, idle=idle, on_tick=report)
        self._remember(run)
        return run

    def _play(self, case: Case, doing: str, *, at_any_cost: bool = False, timeout: float | None = None) -> Run:
        if self._elapsed() > self._plan.budget and not at_any_cost:
            raise _BudgetSpent

        def report() -> None:
            self._report_progress(doing)

        report()
        timeout = timeout or self._timeout()
        run = self._harness.play(case, self._driver, self._plan.limits, timeout=timeout, on_tick=report)
        self._remember(run)
        return run

    def _remember(self, run: Run) -> None:
        """Note which operations this client uses, and how long a call of it has taken at most."""
        self._used_operations |= {_family(run, exchange.operation_id) for exchange in run.exchanges}
        self._used_operations |= {str(exchange.operation_id) for exchange in run.exchanges}
        if run.outcome.kind != "hung":
            self._longest = max(self._longest, run.seconds)

    def _timeout(self) -> float:
        """Seconds that the next run may take: less once the client has hung, or waiting would spend the budget."""
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
    """The breaches in a run. Where it failed with legal variety, its control case is played for comparison."""
    failed = run.outcome.kind != "returned" and not run.cut_off
    control = control_case(run.case)
    return find_breaches(run.with_control_run(play(control).outcome) if failed and control != run.case else run)


def replay(harness: Harness, driver: Driver, finding: Finding, limits: Limits) -> Finding:
    """Play a finding's case again: the finding as it is now, `confirmed` 0 times if its rule is kept.

    Raises ClientError if the client cannot be run, or is a worker that is none.
    """
    if isinstance(driver, WorkerDriver):
        plain = next(fixed_cases(harness.contract, [finding.case.model], None))
        check_worker(plain, driver, lambda case, driver, idle=None: harness.play(case, driver, limits, idle=idle))
    run = harness.play(finding.case, driver, limits)
    found = _breach_of(
        finding.rule, find_breaches_with_control(run, lambda control: harness.play(control, driver, limits))
    )
    if found is not None:
        return Finding.of(found, run, 1)
    rule = RULES[finding.rule]
    return Finding.of(Breach(rule.code, rule.severity, f"The rule was kept. It says: {rule.demand}"), run, 0)


class _Abort(BaseException):
    """Carries an error past Hypothesis, which takes an Exception for a failing example."""

    def __init__(self, reason: MockServerError) -> None:
        self.reason = reason


def _model_names(contract: Contract) -> tuple[str, ...]:
    return tuple(str(operation.model) for operation in contract.of_role("create"))


def _check_plan(plan: Plan, contract: Contract) -> None:
    """Make sure that a plan names only what there is. Raises MockServerError."""
    known = _model_names(contract)
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
