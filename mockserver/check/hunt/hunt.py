"""The hunt: plays fixed cases, then drawn ones, side by side; what is broken is confirmed and shrunk alone."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from mockserver.check.drive.callables import CallableDriver
from mockserver.check.drive.processes import ProcessDriver, WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.generate.catalogue import fixed_cases
from mockserver.check.generate.sample import BackgroundSampler, sample_all
from mockserver.check.generate.shrink import shrink
from mockserver.check.generate.strategies import cases
from mockserver.check.hunt.harness import Harness
from mockserver.check.hunt.plan import Plan, check_plan, model_names
from mockserver.check.hunt.pool import Players
from mockserver.check.hunt.preflight import check_client
from mockserver.check.hunt.replay import breach_of, most_plays, tests_nothing, with_control
from mockserver.check.hunt.wanted import OpenRules
from mockserver.check.model import Case, ClientError, Run, operation_of
from mockserver.check.progress import Listener, Progress
from mockserver.check.report.findings import Finding, Report
from mockserver.check.report.summary import untested_runs
from mockserver.check.rules.evidence import reason_given, retry_after_exceeds_deadline
from mockserver.check.rules.registry import find_breaches
from mockserver.check.rules.rule import Breach
from mockserver.clock import SECOND, timestamp, wall_time
from mockserver.errors import MockServerError, ScenarioError
from mockserver.scenarios.timeline import TERMINAL

SHRINK_RUNS = 60  # for each rule
MIN_TIMEOUT = 1.0  # seconds that a client which is known to hang is given
WEBHOOKS = "webhooks"  # stands among the operations that a client uses, if it receives webhooks
POLLING = 0.5  # share of the deadline that polls of one case may take
KEEPS_RETRYING = "MC402"
OVERTIME = (
    1.2  # times the budget, after which no hang is confirmed: that lasts as long as a deadline
)
LOOK_ON = (
    3  # times the deadline that a client which retries slowly is watched before it is said to go on
)
SILENCE = "MC406"  # the rule whose cases last as long as the deadline
TICK = 0.05  # seconds between looks at plays that go on
AHEAD = 16  # cases that are played before they can be judged, for each job
STRAGGLER = 1.0  # seconds after which a play is not waited for in idleness
EARLY = 40  # cases before the first drawn one is needed, at which drawing begins


class _BudgetSpent(Exception):
    """The seconds are spent."""


@dataclass(slots=True, eq=False)
class _QueuedCase:
    """A case whose turn comes: being played, played, or, while the client seems not to need it, put off."""

    case: Case
    fixed: bool
    number: int
    play: Future[Run] | None = None
    began: float = 0


class Hunt:
    """One hunt for the rules that a client breaks. Raises MockServerError if the plan makes no sense.

    Cases are played side by side, and judged one by one in the order in which they were drawn. What
    is found is confirmed and shrunk with nothing else running. So it does not depend on how many
    are played at once.
    """

    def __init__(
        self, harness: Harness, driver: Driver, plan: Plan, listen: Listener = lambda progress: None
    ) -> None:
        check_plan(plan, harness.contract)
        self._harness, self._driver, self._plan, self._listen = harness, driver, plan, listen
        self._models = plan.models or model_names(harness.contract)
        self._limits = plan.limits
        self._players = Players(harness, driver, plan.jobs)
        self.report = Report(
            max_runs=plan.max_runs,
            seed=plan.seed,
            models=self._models,
            not_looked_for=tuple(sorted(plan.ignore)),
            process_per_call=isinstance(driver, ProcessDriver),
            contract=harness.contract.title,
            date=timestamp(wall_time())[: len("2026-01-01T00:00")].replace("T", " ") + " UTC",
        )
        self._in_process = isinstance(driver, CallableDriver)
        self._open_rules = OpenRules(plan.ignore)
        self._used_operations: set[str] = set()
        self._queue: deque[_QueuedCase] = deque()
        self._playing: set[_QueuedCase] = set()
        self._numbers = itertools.count(1)
        self._longest = 0.0
        self._pause = 0.0  # the longest that the client makes between polls, in seconds
        self._hangs = False
        self._budget = plan.budget
        self._began = wall_time()

    def run(self) -> Report:
        """Hunt until the budget is spent, the runs are done, or Ctrl-C. Raises MockServerError."""
        try:
            plain = [
                next(fixed_cases(self._harness.contract, [model], None)) for model in self._models
            ]
            check_client(plain, self._driver, self._play_at_start, self._is_to_be_told)
            with self._players, ExitStack() as stack:
                self._run_cases(self._cases(stack))
        except KeyboardInterrupt:
            self.report.interrupted = True
        if not self.report.runs and not self.report.interrupted:
            raise MockServerError(
                f"not one case fitted into the budget of {self._plan.budget:g} s; a longer one is needed"
            )
        if 2 * self.report.untested > self.report.runs and not self.report.findings:
            raise ClientError(f"the client broke down in the hunt. {untested_runs(self.report)}")
        broken = {
            finding.rule
            for finding in (*self.report.findings, *self.report.warnings, *self.report.accepted)
        }
        self.report.fixed = sorted(set(self.report.fixed) - broken)
        self.report.seconds = self._elapsed()
        for found in (self.report.findings, self.report.warnings, self.report.accepted):
            found.sort(key=lambda finding: (finding.rule, finding.severity == "warning"))
        return self.report

    def _cases(self, stack: ExitStack) -> Iterator[_QueuedCase]:
        """The fixed cases, then drawn ones."""
        fixed = list(self._fixed_cases())
        strategy = cases(self._harness.catalogue, self._harness.contract, self._models)
        seed, count = self._plan.seed, self._plan.max_runs
        drawn: Iterable[Case] = ()
        for number, case in enumerate(fixed):
            if len(fixed) - number == EARLY and len(fixed) < 2 * count and not self._in_process:
                drawn = stack.enter_context(BackgroundSampler(strategy, seed, count))
            if self._is_scenario(case):
                yield _QueuedCase(case, True, number)
        if self._in_process:
            wait([look.play for look in self._playing if look.play is not None])
            drawn = sample_all(strategy, seed, count, count - self.report.runs)
        for number, case in enumerate(drawn, len(fixed)):
            yield _QueuedCase(self._as_planned(case), False, number)

    def _fixed_cases(self) -> Iterator[Case]:
        """The fixed cases as the plan has them, each once."""
        seen: set[bytes] = set()
        for case in fixed_cases(self._harness.contract, self._models, self._limits.client_timeout):
            planned = self._as_planned(case)
            if planned.key not in seen:
                seen.add(planned.key)
                yield planned

    def _as_planned(self, case: Case) -> Case:
        """The case, with as many calls at once as the plan has, and only the inputs that it names."""
        inputs, prompt = (
            self._plan.inputs,
            operation_of(self._harness.contract, case.model).picture["prompt"],
        )
        kept = {
            name: value
            for name, value in case.input.items()
            if inputs is None or name in inputs or name == prompt
        }
        return msgspec.structs.replace(case, input=kept, concurrent=self._plan.concurrent)

    def _run_cases(self, cases: Iterator[_QueuedCase]) -> None:
        """Play all cases, and judge each in its turn."""
        try:
            self._replay_baseline()
            while self._top_up(cases):
                look = self._queue[0]
                if self._is_relevant(look.case) if look.fixed else True:
                    run = self._wait_for(look, cases)
                    if run.machine_overloaded and self._plan.jobs > 1:
                        self._quiesce(cases)
                        run = self._play_alone(run.case, "looking", self._limits.longest)
                    new = self._judge(run)
                    self._queue.popleft()
                    if new:
                        self._quiesce(cases)
                        for found in new:
                            self._confirm_and_shrink(found, run)
                else:
                    self._queue.popleft()
        except _BudgetSpent:
            self._judge_what_was_played()

    def _top_up(self, cases: Iterator[_QueuedCase]) -> bool:
        """Have idle players play the cases that come next; whether there is any case left to judge."""
        self._playing = {
            look for look in self._playing if look.play is not None and not look.play.done()
        }
        while len(self._playing) < self._plan.jobs or not self._queue:
            relevant = sum(look.play is not None for look in self._queue)
            if (
                self.report.runs + relevant >= self._plan.max_runs
                or len(self._queue) >= AHEAD * self._plan.jobs
            ):
                break
            look = next(cases, None)
            if look is None:
                break
            self._queue.append(look)
            if not look.fixed or self._is_relevant(look.case):
                self._start(look)
        return bool(self._queue) and self.report.runs < self._plan.max_runs

    def _start(self, look: _QueuedCase) -> None:
        look.began = self._elapsed()
        look.play = self._start_play(look.case, f"case {look.number}")
        self._playing.add(look)

    def _wait_for(self, look: _QueuedCase, cases: Iterator[_QueuedCase]) -> Run:
        """The run of the case whose turn it is; others are played meanwhile. Raises _BudgetSpent."""
        if look.play is None:
            self._start(look)
        assert look.play is not None
        while not wait([look.play], 0 if look.play.done() else TICK).done:
            self._top_up(cases)
            self._report_progress("looking")
            self._check_budget()
        return look.play.result()

    def _quiesce(self, cases: Iterator[_QueuedCase]) -> None:
        """Wait until nothing is being played. As long as a straggler keeps it from that, others go on."""
        while self._playing:
            if any(self._elapsed() - look.began > STRAGGLER for look in self._playing):
                self._top_up(cases)
            playing = [look.play for look in self._playing if look.play is not None]
            wait(playing, TICK, FIRST_COMPLETED)
            self._playing = {
                look for look in self._playing if look.play is not None and not look.play.done()
            }
            self._report_progress("looking")
            if self._elapsed() > self._budget:
                self._end_what_still_runs()

    def _end_what_still_runs(self) -> None:
        """End the plays that go on, as if they had never begun."""
        ended = [look for look in self._queue if look.play is not None and not look.play.done()]
        self._players.end_plays()
        for look in ended:
            look.play = None
        self._playing.clear()

    def _judge_what_was_played(self) -> None:
        """Judge the runs that are there when the time is over.

        A rule that nothing was found of before is still confirmed, once, which may take as long as
        a deadline.
        """
        self._end_what_still_runs()
        plays = [look.play for look in self._queue if look.play is not None]
        settled = {
            (finding.rule, finding.severity)
            for finding in (*self.report.findings, *self.report.warnings)
        }
        for play in plays[: self._plan.max_runs - self.report.runs]:
            run = play.result()
            for found in self._judge(run):
                if (found.rule, found.severity) not in settled:
                    settled.add((found.rule, found.severity))
                    self._confirm_and_shrink(found, run)

    def _judge(self, run: Run) -> list[Breach]:
        """Count a run; its breaches of rules that are still looked for."""
        self.report.runs += 1
        self._note_operations(run)
        breaches = find_breaches(run)
        if run.outcome.kind == "hung" and not breaches and not retry_after_exceeds_deadline(run):
            self.report.undecided += 1
        if tests_nothing(run):
            self.report.untested += 1
            self.report.client_error = reason_given(run)
        self._report_progress("looking")
        return self._open_rules.filter(breaches)

    def _replay_baseline(self) -> None:
        """Play the cases of the baseline: their rules are accepted where still broken, and looked for where not.

        What that takes is not taken from the budget: an accepted hang must not keep others from
        being found.
        """
        began = self._elapsed()
        for finding in self._plan.known:
            if not self._open_rules.rule(finding.rule):
                continue
            for _ in range(most_plays(finding.case)):
                run = self._play_alone(finding.case, f"looking for {finding.rule} again")
                breach = breach_of(finding.rule, finding.cause, find_breaches(run))
                if breach is not None:
                    break
            self._hangs = self._hangs or run.outcome.kind == "hung"
            if breach is None:
                self.report.fixed.append(finding.rule)
            elif self._open_rules.accepts(breach) and (
                breach.severity == "warning" or finding.severity == "error"
            ):
                self._open_rules.accept(breach)
                self.report.accepted.append(Finding.of(breach, run, 1))
        self._budget += self._elapsed() - began

    def _is_scenario(self, case: Case) -> bool:
        """Whether a fixed case is valid in this contract."""
        try:
            self._harness.catalogue.parse(case.scenario)
        except ScenarioError:
            return False
        return True

    def _is_relevant(self, case: Case) -> bool:
        """Whether a fixed case is about operations that this client has used."""
        streams = {operation.operation_id for operation in self._harness.contract.of_role("stream")}
        parts = {**case.scenario.get("faults", {}), **case.scenario.get("limits", {})}
        about = set(parts) | (streams if "stream" in case.scenario else set())
        about |= {WEBHOOKS} if "webhooks" in case.scenario else set()
        if about and not about & self._used_operations:
            return False
        # A client that pauses between polls is not made to poll past the deadline.
        polls: int = sum(step.get("polls", 0) for step in case.scenario.get("lifecycle", ()))
        return polls * self._pause < POLLING * self._limits.longest

    def _confirm_and_shrink(self, breach: Breach, run: Run) -> None:
        """Confirm a breach afresh, shrink its case, and add the finding to the report.

        Nothing is reported that a replay would not show: what is added was seen on a double that
        had played nothing else.
        """
        if not self._open_rules.accepts(breach):
            return
        hung = run.outcome.kind == "hung"
        timeout, elapsed = self._timeout_to_confirm(breach, run), self._elapsed()
        too_long = elapsed > self._budget and timeout > self._limits.longest
        if hung and (too_long or elapsed > OVERTIME * self._budget):
            self.report.unconfirmed = sorted({*self.report.unconfirmed, breach.rule})
            return
        self._hangs = self._hangs or (hung and breach.rule != SILENCE)

        again = self._play_afresh(run.case, f"confirming {breach.rule}", timeout)
        self._note_operations(again)
        confirmed = breach_of(breach.rule, breach.cause, find_breaches(again))
        if again.outcome.kind == "hung" and again.machine_overloaded:
            self.report.overloaded += 1
        elif confirmed is not None:
            self._add(self._smallest(confirmed, again))
        elif hung and again.outcome.kind != "hung":
            # Alone it ends: what it breaks then is what it breaks, the hang was the machine's.
            for other in self._open_rules.filter(find_breaches(again)):
                self._confirm_and_shrink(other, again)
        else:
            self._note_flake(breach)

    def _timeout_to_confirm(self, breach: Breach, run: Run) -> float:
        """Seconds that the confirmation of a breach may take.

        A hang that was waited for to the deadline, with nothing else running, need not be waited
        for as long again.
        """
        hung = run.outcome.kind == "hung"
        if hung and breach.rule == KEEPS_RETRYING and not run.cut_off:
            return LOOK_ON * self._limits.longest
        waited_out = run.timeout >= self._limits.longest
        if hung and waited_out and (breach.rule == SILENCE or self._plan.jobs == 1):
            return self._short_timeout()
        return self._limits.longest

    def _smallest(self, confirmed: Breach, run: Run) -> Finding:
        """The finding of a breach that was confirmed, with the smallest case that shows it afresh."""
        finding = Finding.of(confirmed, run, 2)
        if confirmed.rule == SILENCE:
            return (
                finding  # its case is small, and each play of it would last as long as the deadline
            )
        smallest = self._shrink(finding)
        if smallest.case.key == run.case.key:
            return finding
        return (
            self._reconfirm(
                smallest,
                self._timeout_to_reconfirm(confirmed, run),
                hangs=run.outcome.kind == "hung",
            )
            or finding
        )

    def _add(self, finding: Finding) -> None:
        self._open_rules.found(finding.breach)
        if finding.rule in self.report.flaky:
            self.report.flaky.remove(finding.rule)
        (self.report.findings if finding.severity == "error" else self.report.warnings).append(
            finding
        )
        self._report_progress("looking")

    def _note_flake(self, found: Breach) -> None:
        self._open_rules.note_flake(found)
        if found.rule not in self.report.flaky:
            self.report.flaky.append(found.rule)

    def _timeout_to_reconfirm(self, confirmed: Breach, run: Run) -> float:
        """Seconds that the smallest case may take when it is played afresh."""
        slow = confirmed.rule == KEEPS_RETRYING and run.outcome.kind == "hung" and not run.cut_off
        return (LOOK_ON if slow else 1) * self._limits.longest

    def _reconfirm(self, finding: Finding, timeout: float, *, hangs: bool) -> Finding | None:
        """The finding after a play of its case afresh; None if the budget is spent, or it is not shown."""
        if self._elapsed() + (timeout if hangs else 0) > self._budget:
            return None
        run = self._play_afresh(finding.case, f"confirming {finding.rule}", timeout)
        breach = breach_of(finding.rule, finding.cause, find_breaches(run))
        return None if breach is None else Finding.of(breach, run, 2)

    def _shrink(self, finding: Finding) -> Finding:
        """The finding with the smallest case that breaks its rule, as far as runs and time allow."""
        best = finding
        runs = 0
        doing = f"shrinking {finding.rule}"

        def first_failing(steps: Sequence[Case]) -> Case | None:
            nonlocal best, runs
            allowed = [step for step in steps if self._is_allowed(step)][: SHRINK_RUNS - runs]
            if not allowed or self._elapsed() > self._budget:
                return None
            plays = [self._start_play(step, f"{doing}: {step.key!r}") for step in allowed]
            for step, play in zip(allowed, plays, strict=True):
                run = self._finish(play, doing)
                runs += 1
                breach = breach_of(finding.rule, best.cause, find_breaches(run))
                if breach is not None:
                    best = Finding.of(breach, run, 2)
                    for other in plays:
                        self._finish(
                            other, doing
                        )  # nothing of it may run when the next step is tried
                    return step
            return None

        shrink(finding.case, first_failing, self._plan.jobs)
        return best

    def _is_allowed(self, case: Case) -> bool:
        try:
            scenario = self._harness.check(case)
        except MockServerError:
            return False
        return scenario.lifecycle[-1].status in TERMINAL or self._limits.client_timeout is not None

    def _is_to_be_told(self, run: Run) -> bool:
        """Whether a run breaks a rule that is neither ignored nor accepted."""
        known = {(finding.rule, finding.cause) for finding in self._plan.known}
        wanted = self._open_rules.filter(find_breaches(run))
        return any(
            breach.severity == "error" and (breach.rule, breach.cause) not in known
            for breach in wanted
        )

    def _play_at_start(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        def report() -> None:
            self._report_progress("starting the client")

        report()
        run = self._harness.play(case, driver, self._limits, idle=idle, on_tick=report)
        self._note_operations(run)
        self._note_length(run)
        return run

    def _play_alone(self, case: Case, doing: str, timeout: float | None = None) -> Run:
        """Play a case now, with nothing else running."""
        return self._finish(self._start_play(case, f"alone {next(self._numbers)}", timeout), doing)

    def _play_afresh(self, case: Case, doing: str, timeout: float) -> Run:
        """Play a case on a double that has played nothing else, with a new token, and nothing else running.

        A worker is a new one too; it has its first call behind it, as when a finding is replayed.
        """
        name = f"afresh {next(self._numbers)}"

        def play(case: Case, name: str, harness: Harness, driver: Driver) -> Run:
            return harness.play(
                case,
                driver,
                self._limits,
                name=name,
                timeout=timeout,
                patient=True,
                on_tick=lambda: self._report_progress(doing),
            )

        with ExitStack() as stack:
            harness = stack.enter_context(self._harness.clone())
            driver = self._driver.clone()
            if driver is not self._driver:
                stack.enter_context(closing(driver))
            if isinstance(driver, WorkerDriver):
                with self._harness.clone() as first:
                    play(self._plain_case(case.model), f"{name}, first", first, driver)
            for attempt in range(most_plays(case)):
                run = with_control(
                    play(case, f"{name}, {attempt}", harness, driver),
                    lambda control: play(control, f"{name}, control", harness, driver),
                )
                if find_breaches(run):
                    break
            return run

    def _plain_case(self, model: str) -> Case:
        return next(fixed_cases(self._harness.contract, [model], None))

    def _start_play(self, case: Case, name: str, timeout: float | None = None) -> Future[Run]:
        """Have a case played by the next player that is free, and its control case after it if that is needed."""

        def play(harness: Harness, driver: Driver) -> Run:
            def run_of(case: Case, name: str) -> Run:
                seconds = timeout or self._timeout()
                check = self._players.check
                run = harness.play(
                    case, driver, self._limits, name=name, timeout=seconds, on_tick=check
                )
                self._note_length(run)
                return run

            def with_its_control(name: str) -> Run:
                return with_control(
                    run_of(case, name), lambda control: run_of(control, f"{name}, control")
                )

            run = with_its_control(name)
            # A circuit breaker that earlier cases have opened would keep this one from being played.
            return (
                with_its_control(f"{name}, renewed")
                if tests_nothing(run) and driver.renew()
                else run
            )

        return self._players.start(play)

    def _finish(self, play: Future[Run], doing: str) -> Run:
        """The run that a play comes to."""
        while not wait([play], 0 if play.done() else TICK).done:
            self._report_progress(doing)
        return play.result()

    def _note_operations(self, run: Run) -> None:
        """Note which operations this client uses."""
        self._used_operations |= {_family(run, exchange.operation_id) for exchange in run.exchanges}
        self._used_operations |= {str(exchange.operation_id) for exchange in run.exchanges}
        self._used_operations |= {
            WEBHOOKS for exchange in run.exchanges if exchange.arrived_at == "receiver"
        }

    def _note_length(self, run: Run) -> None:
        """Note how long a call of this client has taken at most, and what it says that it is called."""
        self.report.client_version = self.report.client_version or run.outcome.client
        if run.outcome.kind != "hung":
            self._longest = max(self._longest, run.seconds - run.started_after)
        polls = [poll.received_at for _, poll in run.of_role("get")]
        pauses = [(later - sooner) / SECOND for sooner, later in pairwise(polls)]
        self._pause = max(self._pause, *pauses) if pauses and run.has_no_fault else self._pause

    def _timeout(self) -> float:
        """Seconds that the next run may take: less once the client has hung, or waiting would spend the budget."""
        return (
            min(self._limits.longest, self._short_timeout())
            if self._hangs
            else self._limits.longest
        )

    def _short_timeout(self) -> float:
        """Seconds in which any call so far would have ended."""
        return MIN_TIMEOUT + 2 * self._longest

    def _elapsed(self) -> float:
        return (wall_time() - self._began) / SECOND

    def _check_budget(self) -> None:
        if self._elapsed() > self._budget:
            raise _BudgetSpent

    def _report_progress(self, doing: str) -> None:
        broken_rules = tuple(
            sorted({finding.rule for finding in (*self.report.findings, *self.report.warnings)})
        )
        self._listen(
            Progress(
                runs=self.report.runs,
                max_runs=self._plan.max_runs,
                broken_rules=broken_rules,
                elapsed=self._elapsed(),
                budget=self._budget,
                doing=doing,
            )
        )


def _family(run: Run, operation_id: str | None) -> str:
    operation = run.contract.by_id.get(operation_id or "")
    return operation.family if operation is not None else ""
