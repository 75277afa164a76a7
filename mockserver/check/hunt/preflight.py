"""Checks before a hunt: whether the client can be run, and whether a `--worker` is a worker.

A hunt learns nothing from a client that never reaches the double, and would end without findings. A
command that is not a worker is worse: when a call is sent, its process has exited, or waits for the
end of its input, and the hunt would blame the client. One or two runs find this out, instead of a
deadline for each case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mockserver.check.drive.processes import WorkerDriver
from mockserver.check.drive.protocol import Driver
from mockserver.check.model import Case, ClientError, Outcome, Run

IDLE = 1.5  # seconds within which a client that has its call is expected to send a request
# A worker is idle, and not just slow, after this multiple of the time of one call in a new process.
SLOWNESS = 4
MAX_QUOTED = 4_000  # characters of the client's output, from the end
_WORKER_HELP = (
    "Remove --worker, or have the command read one line per call, and print and flush one line per "
    "result, until its standard input ends, as examples/worker.py and examples/worker.mjs do."
)


class Play(Protocol):
    """Plays a case. A client that sends no request for `idle` seconds is ended."""

    def __call__(self, case: Case, driver: Driver, idle: float | None = None) -> Run:
        """Return the run."""


def check_client(
    plain: Sequence[Case], driver: Driver, play: Play, is_reportable: Callable[[Run], bool]
) -> None:
    """Play the plain case of each model.

    `is_reportable` decides whether a run breaks a rule that the hunt will report. Raises
    ClientError, with the next step, if a hunt could learn nothing from the client.
    """
    first = plain[0]
    run = (
        check_worker(first, driver, play)
        if isinstance(driver, WorkerDriver)
        else play(first, driver)
    )
    _check_run(run, is_reportable)

    for other in plain[1:]:
        try:
            _check_run(play(other, driver), is_reportable)
        except ClientError as error:
            raise ClientError(
                f"with {other.model}, {error}\n"
                f"If the client supports only some models, select them: --model {first.model}"
            ) from error


def _check_run(run: Run, is_reportable: Callable[[Run], bool]) -> None:
    check_reached(run)
    if run.cut_off or is_reportable(run):
        return  # the client runs, and the hunt will report what it breaks

    if not list(run.of_role("create")):
        raise ClientError(
            f"the client created no prediction ({_ending(run)}). Each call must create one. "
            f"{_quoted(run.outcome)}"
        )
    if run.outcome.kind == "hung" and not run.end_indexes:
        raise ClientError(
            f"the client {_ending(run)}, although the gateway behaved normally; if the client is "
            f"just slow, choose a longer --deadline. {_quoted(run.outcome)}"
        )


def check_reached(run: Run) -> None:
    """Make sure that the client has sent a request. Raises ClientError, with the next step."""
    if run.exchanges:
        return
    slow = (
        "; if it is slow to start, choose a longer --deadline" if run.outcome.kind == "hung" else ""
    )
    raise ClientError(
        f"the client made no request ({_ending(run)}{slow}). Make sure that it uses the base URL "
        f"of its call. {_quoted(run.outcome)}"
    )


def check_worker(plain: Case, driver: WorkerDriver, play: Play) -> Run:
    """Play the plain case twice. Returns the first run.

    Raises ClientError, with the next step, if the command is not a worker.
    """
    first = play(plain, driver, IDLE)
    if first.outcome.kind == "hung" and not first.cut_off:
        _compare_with_one_call(plain, driver, play, first)
        first = play(plain, driver)  # it may just be slow to start

    if first.outcome.kind == "hung" or first.outcome.no_report:
        return first  # it failed in its first call, so a second would show nothing

    second = play(plain, driver, max(IDLE, 2 * first.seconds))
    if not second.exchanges and second.outcome.no_report:
        raise ClientError(
            "the command is not a worker: it exited after its first call. "
            f"{_WORKER_HELP} {_quoted(second.outcome)}"
        )
    if not second.exchanges and second.outcome.kind == "hung":
        raise ClientError(
            "the command is not a worker: it answered its first call and ignored the second. "
            f"{_WORKER_HELP}"
        )
    return first


def _compare_with_one_call(plain: Case, driver: WorkerDriver, play: Play, worker: Run) -> None:
    """Compare an idle worker with the same command when its input ends after one call.

    Raises ClientError if the command finishes quickly then: it is not a worker. If it takes as
    long, it is just slow, and nothing can be concluded.
    """
    single_call = play(plain, driver.for_one_call(), IDLE)
    if single_call.outcome.kind == "hung":
        return

    # On a busy machine one call takes long too, so the worker gets more time before it is judged.
    if single_call.seconds > IDLE / 2:
        worker = play(plain, driver, SLOWNESS * single_call.seconds)
        if worker.outcome.kind != "hung" or worker.cut_off:
            return

    if single_call.outcome.no_report:
        raise ClientError(
            'the client printed no line {"output": …} or {"error": …}. '
            "Its last line of output must be one of these. "
            f"{_quoted(single_call.outcome)}"
        )
    symptom = (
        "it made its requests, but printed its result only after its standard input had ended"
        if worker.exchanges
        else "it made no request until its standard input had ended"
    )
    raise ClientError(f"the command is not a worker: {symptom}. {_WORKER_HELP}")


def _ending(run: Run) -> str:
    """How the call ended, in words."""
    if run.outcome.no_report and not run.outcome.message.startswith("exit code"):
        return "it ended without a result"
    endings = {
        "returned": "it returned",
        "raised": "it raised",
        "hung": f"had not finished after {run.timeout:.3g} s",
    }
    return endings[run.outcome.kind]


def _quoted(outcome: Outcome) -> str:
    """The client's error message and output, JSON or not."""
    message, printed = outcome.message.strip(), outcome.printed.strip()
    # The message of a process may end with everything that it printed.
    if printed and printed not in message:
        message = "\n".join(filter(None, (message.partition("\n")[0], printed)))
    return f"Client output:\n{message[-MAX_QUOTED:]}" if message else "The client printed nothing."
