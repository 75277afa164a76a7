"""What every driver of a client is: it makes calls, and waits for their outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mockserver.check.model import Outcome


@dataclass(frozen=True, slots=True)
class Call:
    """What a client is asked to do: make one picture with a model, from an input, at a base URL, with a token.

    `ca_file` is the certificate that it is to trust, if the base URL is https. Calls that are made
    at once have an `id`, by which a process says whose result it prints. `webhook_url` is where the
    client is to have webhooks sent, if that was said.
    """

    base_url: str
    token: str
    model: str
    input: Mapping[str, Any]
    ca_file: str | None = None
    id: int | None = None
    webhook_url: str | None = None

    def as_line(self) -> bytes:
        """The call as a process gets it: a line of JSON."""
        facts: dict[str, Any] = {"model": self.model, "input": self.input}
        facts |= {"base_url": self.base_url, "token": self.token}
        facts |= {"ca_file": self.ca_file} if self.ca_file else {}
        facts |= {"id": self.id} if self.id is not None else {}
        facts |= {"webhook_url": self.webhook_url} if self.webhook_url else {}
        # ASCII: some runtimes end a line at U+2028, and a JVM may read bytes by the locale's charset.
        return json.dumps(facts).encode("ascii") + b"\n"


class Pending(Protocol):
    """A call under way."""

    def wait(self, seconds: float) -> Outcome | None:
        """How it ended, or None if it has not ended within so many seconds."""

    def kill(self) -> Outcome:
        """End it, as far as that is possible."""

    def seconds_without_processor(self) -> float:
        """How long it was ready to run while no processor was free; 0 where the system does not tell."""


class Driver(Protocol):
    """Runs the client. What `clone` makes is ended with the driver that made it.

    `starts_process` tells whether a call may have to wait for a process to start.
    """

    starts_process: bool

    def start(self, call: Call) -> Pending:
        """Begin a call. Raises ClientError if the client cannot be run at all."""

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Begin several calls at once, of one client. Raises ClientError."""

    def clone(self) -> Driver:
        """A driver of the same client, for calls made at the same time."""

    def renew(self) -> bool:
        """Have the next call made by a client with fresh state; False where that is not possible."""

    def close(self) -> None:
        """End what is still running."""

    def kill_now(self) -> None:
        """Kill what is still running, without waiting for its end: callable in a signal handler."""
