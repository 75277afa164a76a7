"""Plays the cases of a hunt: in the pool, alone, or on a double that has played nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import ExitStack, closing

from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.generate.catalogue import fixed_cases
from mockserver.check.hunt.client_profile import ClientProfile
from mockserver.check.hunt.harness import Harness, Limits
from mockserver.check.hunt.pool import PlayerPool
from mockserver.check.hunt.replay import max_plays, tested_nothing, with_control
from mockserver.check.model import Case, Run
from mockserver.check.rules.registry import find_breaches
from mockserver.contract.contract import Contract

TICK = 0.05  # seconds between two looks at a play that is still running


class CasePlayer:
    """Plays cases within the limits of a hunt, and notes in `profile` how long the client took.

    `report_progress` is called with the current activity while a play is waited for.
    """

    def __init__(
        self,
        harness: Harness,
        driver: Driver,
        limits: Limits,
        pool: PlayerPool,
        profile: ClientProfile,
        report_progress: Callable[[str], None],
    ) -> None:
        self._harness = harness
        self._driver = driver
        self._limits = limits
        self._pool = pool
        self._profile = profile
        self._report_progress = report_progress
        self._numbers = itertools.count(1)

    def start(
        self, case: Case, name: str, timeout: float | None = None, *, linger: float = 0.0
    ) -> Future[Run]:
        """Have the next free player play a case, and its control case if a rule needs that.

        A run is ended after `timeout` seconds; by default after those that the profile suggests.
        Once its call has returned, the client is watched for `linger` seconds more. The future
        raises what `Harness.play` raises, or PlayStopped.
        """

        def play(harness: Harness, driver: Driver) -> Run:
            def play_once(case: Case, name: str) -> Run:
                run = harness.play(
                    case,
                    driver,
                    self._limits,
                    name=name,
                    timeout=timeout or self._profile.timeout,
                    linger=linger,
                    on_tick=self._pool.check,
                )
                self._profile.note_timing(run)
                return run

            def play_with_control(name: str) -> Run:
                return with_control(
                    play_once(case, name),
                    lambda control: play_once(control, f"{name}, control"),
                )

            run = play_with_control(name)

            # A circuit breaker that earlier cases opened keeps the client from sending anything,
            # even in the control case. A client with fresh state gets the case once more.
            if tested_nothing(run) and driver.renew():
                return play_with_control(f"{name}, renewed")
            return run

        return self._pool.start(play)

    def finish(self, play: Future[Run], activity: str) -> Run:
        """Wait for the run of a play."""
        while not wait([play], 0 if play.done() else TICK).done:
            self._report_progress(activity)
        return play.result()

    def play_alone(self, case: Case, activity: str, timeout: float | None = None) -> Run:
        """Play a case now. Nothing else may be running; `timeout` is in seconds."""
        return self.finish(self.start(case, f"alone {next(self._numbers)}", timeout), activity)

    def play_at_start(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        """Play a case before the hunt, and note what it tells about the client.

        A client that sends no request for `idle` seconds is ended.
        """

        def report() -> None:
            self._report_progress("starting the client")

        report()
        run = self._harness.play(case, driver, self._limits, idle=idle, on_tick=report)

        self._profile.note_operations(run)
        self._profile.note_timing(run)
        return run

    def play_fresh(self, case: Case, activity: str, timeout: float, *, linger: float = 0.0) -> Run:
        """Play a case on a new double, with a new token. Nothing else may be running.

        A run is ended after `timeout` seconds, plus those in which the client got no processor. A
        case of concurrent calls is played until a rule is broken, up to `max_plays` times.
        """
        name = f"fresh {next(self._numbers)}"

        def play(case: Case, name: str, harness: Harness, driver: Driver) -> Run:
            return harness.play(
                case,
                driver,
                self._limits,
                name=name,
                timeout=timeout,
                patient=True,
                linger=linger,
                on_tick=lambda: self._report_progress(activity),
            )

        with ExitStack() as stack:
            harness = stack.enter_context(self._harness.clone())
            driver = self._driver.clone()
            if driver is not self._driver:
                stack.enter_context(closing(driver))

            # A replay sends a worker its first call to see whether it is a worker at all, so
            # here too the case is its second call; the first goes to a double of its own.
            if isinstance(driver, WorkerDriver):
                with self._harness.clone() as first:
                    plain = plain_case(self._harness.contract, case.model)
                    play(plain, f"{name}, first", first, driver)

            for attempt in range(max_plays(case)):
                run = with_control(
                    play(case, f"{name}, {attempt}", harness, driver),
                    lambda control: play(control, f"{name}, control", harness, driver),
                )
                if find_breaches(run):
                    break
            return run


def plain_case(contract: Contract, model: str) -> Case:
    """The case of a model in which nothing unusual happens."""
    return next(fixed_cases(contract, [model], None))
