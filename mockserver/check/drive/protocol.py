"""The protocol of drivers, which run a client: they start calls and wait for outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mockserver.check.model import Outcome


@dataclass(frozen=True, slots=True)
class Call:
    """A task for the client: make one picture with a model.

    Attributes:
        base_url: The base URL of the gateway, without `/v1`.
        token: The API token.
        model: The name of the model, such as `owner/name`.
        input: The input of the prediction.
        ca_file: The certificate to trust, if the base URL is https.
        id: Identifies the result of one of several concurrent calls.
        webhook_url: The address for webhooks, if the client receives any.
    """

    base_url: str
    token: str
    model: str
    input: Mapping[str, Any]
    ca_file: str | None = None
    id: int | None = None
    webhook_url: str | None = None

    def as_line(self) -> bytes:
        """The call as a line of JSON, for a process."""
        facts: dict[str, Any] = {"model": self.model, "input": self.input}
        facts |= {"base_url": self.base_url, "token": self.token}
        facts |= {"ca_file": self.ca_file} if self.ca_file else {}
        facts |= {"id": self.id} if self.id is not None else {}
        facts |= {"webhook_url": self.webhook_url} if self.webhook_url else {}
        # ASCII: some runtimes end lines at U+2028, and a JVM may decode by the locale's charset.
        return json.dumps(facts).encode("ascii") + b"\n"


class Pending(Protocol):
    """A call that has been started."""

    def wait(self, seconds: float) -> Outcome | None:
        """The outcome, or None if the call has not ended within `seconds`. Raises ClientError."""

    def kill(self) -> Outcome:
        """End the call, as far as possible, and return its outcome."""

    def seconds_without_processor(self) -> float:
        """Seconds for which the call was ready to run but got no processor; 0 if unknown."""


class Driver(Protocol):
    """Runs the client. Closing or killing a driver includes its clones.

    `starts_process` tells whether a call may have to wait until a process has started.
    """

    starts_process: bool

    def start(self, call: Call) -> Pending:
        """Start a call. Raises ClientError if the client cannot be run."""

    def start_together(self, calls: Sequence[Call]) -> Sequence[Pending]:
        """Start several concurrent calls. Raises ClientError if the client cannot be run."""

    def clone(self) -> Driver:
        """A driver of the same client, for calls made in parallel."""

    def renew(self) -> bool:
        """Use a client with fresh state for the next call. Returns False if that is impossible."""

    def close(self) -> None:
        """End all calls that are still running."""

    def kill_now(self) -> None:
        """Kill all running processes without waiting for them. Safe to call in a signal handler."""
