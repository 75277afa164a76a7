"""A client that several calls share, right or with a bug that only calls made at once can show."""

import threading
from collections.abc import Callable
from typing import Any

from mockserver.check.drive.protocol import Call
from tests.check import client

BUGS: dict[str, set[str]] = {
    "keeps the prediction in the client": {"MC306"},
    "keeps the result in the client": {"MC306"},
    "keeps the body in the client": {"MC102", "MC306"},
    "remembers pictures by model": {"MC306"},
    "takes the newest of the list": {"MC306"},
    "a pool that does not wait": {"MC306"},
    "a connection that is never given back": {"MC306"},
    "one connection for all": {"MC306"},
    "joins creates of the same model": {"MC306"},
    "retries the other call's create": {"MC201", "MC306"},
}
VARIANTS = ("shares nothing", "shares a pool that waits", "one at a time")


class SharedClient:
    """One client for all calls."""

    def __init__(self, bug: str = "", variant: str = "shares nothing") -> None:
        self.bug, self.variant = bug, variant
        self.prediction: dict[str, Any] = {}
        self.output: Any = None
        self.given: dict[str, Any] = {}
        self.pictures: dict[tuple[str, str], Any] = {}
        self.lock = threading.Lock()
        self.pool = threading.BoundedSemaphore(2)
        self.pools: dict[str, threading.BoundedSemaphore] = {}
        self.shared: dict[str, client.Client] = {}

    def __call__(self, call: Call) -> Any:
        """One call."""
        if self.variant == "one at a time":
            with self.lock:
                return client.call_once(call)
        if self.variant == "shares a pool that waits":
            with self.pool:
                return client.call_once(call)
        run: dict[str, Callable[[Call], Any]] = {
            "keeps the prediction in the client": self.keep_prediction,
            "keeps the result in the client": self.keep_result,
            "keeps the body in the client": self.keep_body,
            "remembers pictures by model": self.remember,
            "takes the newest of the list": self.take_newest,
            "a pool that does not wait": self.pool_without_wait,
            "a connection that is never given back": self.never_given_back,
            "one connection for all": self.one_connection,
            "joins creates of the same model": self.join,
            "retries the other call's create": self.retry_other,
        }
        return run.get(self.bug, client.call_once)(call)

    def keep_prediction(self, call: Call) -> Any:
        one = client.Client(call)
        self.prediction = one.create()
        self.let_others_run()
        return one.result(one.follow(self.prediction))

    def keep_result(self, call: Call) -> Any:
        self.output = client.call_once(call)
        self.let_others_run()
        return self.output

    def keep_body(self, call: Call) -> Any:
        self.given = dict(call.input)
        self.let_others_run()
        mixed = Call(call.base_url, call.token, call.model, self.given)
        return client.call_once(mixed)

    def remember(self, call: Call) -> Any:
        key = (call.token, call.model)  # the token is another in each case
        with self.lock:
            if key not in self.pictures:
                self.pictures[key] = client.call_once(call)
        return self.pictures[key]

    def take_newest(self, call: Call) -> Any:
        one = client.Client(call)
        one.create()
        self.let_others_run()
        listed = one.request("GET", f"{one.root}/v1/predictions", None, {})[1]
        return one.result(one.follow(one.read(listed)["results"][0]))

    def pool_without_wait(self, call: Call) -> Any:
        if not self.pool.acquire(blocking=False):
            raise client.FluxError("no connection is free")
        try:
            return client.call_once(call)
        finally:
            self.pool.release()

    def never_given_back(self, call: Call) -> Any:
        with self.lock:
            pool = self.pools.setdefault(call.token, threading.BoundedSemaphore(2))
        if not pool.acquire(timeout=60):
            raise client.FluxError("no connection is free")
        return client.call_once(call)

    def one_connection(self, call: Call) -> Any:
        one = self.shared.setdefault(call.token, client.Client(call))
        mine = client.Client(call)
        mine.connection = one.connection
        return mine.result(mine.follow(mine.create()))

    def join(self, call: Call) -> Any:
        with self.lock:
            made = self.pictures.get((call.token, call.model))
            if made is None:
                made = self.pictures[call.token, call.model] = client.Client(call).create()
        one = client.Client(call)
        return one.result(one.follow(made))

    def retry_other(self, call: Call) -> Any:
        self.given = dict(call.input)
        try:
            return client.call_once(call)
        except (OSError, client.FluxError):
            again = Call(call.base_url, call.token, call.model, self.given)
            return client.call_once(again, "creates again on any 5xx")

    def let_others_run(self) -> None:
        threading.Event().wait(0.02)
