"""Before a hunt: whether the client can be run at all, and whether a `--worker` is one.

Nothing can be learnt from a client that never reaches the double, and a hunt against it would end
without findings. A command that is no worker is worse: its process is gone, or waits for the end of
its input, when a call comes, and the hunt would blame the client for that. Each takes a run or two
to find out, instead of a deadline for each case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.model import Case, ClientError, Outcome, Run

IDLE = 1.5  # seconds in which a client that has its call is expected to send a request
PATIENT = 4  # times what one call took, process and all: a worker that is idle for longer is not just slow
MAX_QUOTED = 4_000  # characters of what a client printed, from the end
_BE_A_WORKER = (
    "Leave --worker out, or have it read a line and print a line, flushed at once, for each call until its standard "
    "input ends, as examples/worker.py and examples/worker.mjs do."
)


class Play(Protocol):
    """Plays a case; a client that sends no request for `idle` seconds is ended."""

    def __call__(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        """The run."""


def check_client(
    plain: Sequence[Case], driver: Driver, play: Play, tells: Callable[[Run], bool]
) -> None:
    """Play the plain case of each model. Raises ClientError, with the next step, if nothing can be learnt.

    `tells` says whether a run breaks a rule that the hunt is to tell of.
    """
    first = plain[0]
    run = (
        check_worker(first, driver, play)
        if isinstance(driver, WorkerDriver)
        else play(first, driver)
    )
    _check_run(run, tells)
    for other in plain[1:]:
        try:
            _check_run(play(other, driver), tells)
        except ClientError as reason:
            said = f"with {other.model}, {reason}\nIf it is for some models only, name them: --model {first.model}"
            raise ClientError(said) from reason


def _check_run(run: Run, tells: Callable[[Run], bool]) -> None:
    check_reached(run)
    if run.cut_off or tells(run):
        return  # it runs, and what it breaks is for the hunt to tell
    if not list(run.of_role("create")):
        raise ClientError(
            f"the client created no prediction ({_ending(run)}). {_quoted(run.outcome)}"
        )
    if run.outcome.kind == "hung" and not run.end_indexes:
        raise ClientError(
            f"the client {_ending(run)}, though the gateway behaved as usual; if it is just slow, give it a longer "
            f"--deadline. {_quoted(run.outcome)}"
        )


def check_reached(run: Run) -> None:
    """Make sure that a client has sent anything. Raises ClientError, with the next step."""
    if not run.exchanges:
        slow = (
            "; if it is slow to start, give it a longer --deadline"
            if run.outcome.kind == "hung"
            else ""
        )
        raise ClientError(
            f"the client made no request ({_ending(run)}{slow}). {_quoted(run.outcome)}"
        )


def check_worker(plain: Case, driver: WorkerDriver, play: Play) -> Run:
    """Play the plain case twice, and return the first run.

    Raises ClientError, with the next step, if the command is not a worker.
    """
    first = play(plain, driver, IDLE)
    if first.outcome.kind == "hung" and not first.cut_off:
        _compare_with_one_call(plain, driver, play, first)
        first = play(plain, driver)  # it may just be slow to start
    if first.outcome.kind == "hung" or first.outcome.no_report:
        return first  # it failed in its first call, which says nothing of a second
    second = play(plain, driver, max(IDLE, 2 * first.seconds))
    if not second.exchanges and second.outcome.no_report:
        raise ClientError(
            f"it is no worker: it ended after its first call. {_BE_A_WORKER} {_quoted(second.outcome)}"
        )
    if not second.exchanges and second.outcome.kind == "hung":
        raise ClientError(
            f"it is no worker: it answered its first call, and ignored the second. {_BE_A_WORKER}"
        )
    return first


def _compare_with_one_call(plain: Case, driver: WorkerDriver, play: Play, worker: Run) -> None:
    """See whether a command that is idle as a worker is done at once when its input ends after one call.

    Raises ClientError if so. One that takes as long then is just slow, and no verdict is possible.
    """
    once = play(plain, driver.for_one_call(), IDLE)
    if once.outcome.kind == "hung":
        return
    if once.seconds > IDLE / 2:  # as on a busy machine, where a worker may be as slow
        worker = play(plain, driver, PATIENT * once.seconds)
        if worker.outcome.kind != "hung" or worker.cut_off:
            return
    if once.outcome.no_report:
        raise ClientError(
            'it is no client that can be checked: it printed no line {"output": …} or {"error": …}. '
            f"{_quoted(once.outcome)}"
        )
    idle = (
        "it made its requests, but printed its result only when its standard input had ended"
        if worker.exchanges
        else "it made no request until its standard input had ended"
    )
    raise ClientError(f"it is no worker: {idle}. {_BE_A_WORKER}")


def _ending(run: Run) -> str:
    if run.outcome.no_report and not run.outcome.message.startswith("exit code"):
        return "it ended without a result"
    words = {
        "returned": "it returned",
        "raised": "it raised",
        "hung": f"had not ended after {run.timeout:.3g} s",
    }
    return words[run.outcome.kind]


def _quoted(outcome: Outcome) -> str:
    """What a client said: what it raised, and what it printed, JSON or not."""
    message, printed = outcome.message.strip(), outcome.printed.strip()
    if printed and printed not in message:  # a process's message may end in all that it printed
        message = "\n".join(filter(None, (message.partition("\n")[0], printed)))
    return f"It said:\n{message[-MAX_QUOTED:]}" if message else "It printed nothing."
