"""When a call of the client must have ended."""

from __future__ import annotations

from mockserver.check.drive.protocol import Pending
from mockserver.check.model import Run
from mockserver.clock import SECOND, wall_time

MAX_PATIENCE = 2.0  # deadlines that a patient play waits for a client that gets no processor


class Deadline:
    """A deadline in seconds, counted from the first request of the call.

    Starting a process takes up to `startup` further seconds, which are not part of the call. With
    `patient`, neither is the time in which the client was ready to run but got no processor, up to
    `MAX_PATIENCE` deadlines; `exhausted` tells whether that was not enough.
    """

    def __init__(self, seconds: float, *, startup: float = 0.0, patient: bool = False) -> None:
        self._seconds = seconds
        self._startup = startup
        self._started = wall_time()
        self._cut_off_end: int | None = None
        self.patient = patient
        self.exhausted = False

    def seconds_left(self, run: Run, pending: Pending) -> float:
        """Seconds until the call must have ended; zero or less if it should have."""
        now = wall_time()
        if self._cut_off_end is not None:
            return (self._cut_off_end - now) / SECOND

        if run.exchanges:
            left = self._seconds - (now - run.exchanges[0].received_at) / SECOND
        else:
            left = self._seconds + self._startup - (now - self._started) / SECOND
        if left > 0 or not self.patient:
            return left

        waited, longest = pending.seconds_without_processor(), MAX_PATIENCE * self._seconds
        self.exhausted = waited > longest
        return left + min(waited, longest)

    def end_within(self, nanoseconds: int) -> None:
        """Replace the deadline by one that is `nanoseconds` from now."""
        self._cut_off_end = wall_time() + nanoseconds
