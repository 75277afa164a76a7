"""The API in plain Python, without HTTP: predictions are created, read, canceled, listed."""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.files import StoredFile
from mockserver.backend.followers import Follower
from mockserver.backend.memory import compact
from mockserver.backend.metrics import Metrics
from mockserver.backend.pictures import Pictures
from mockserver.backend.prediction import (
    Prediction,
    advance_to,
    advance_to_next,
    cancel,
    data_removed,
    entered,
    next_stage,
    stage_at,
)
from mockserver.backend.rendering import Renderer
from mockserver.backend.store import MAX_MEMORY, Bounds, Store
from mockserver.backend.tenant import TenantState
from mockserver.backend.verdict import combine, verdict_of
from mockserver.clock import MILLISECOND, SECOND, Clock, Mode, timestamp
from mockserver.contract.api_error import ApiError, Dialect
from mockserver.contract.contract import Contract
from mockserver.contract.operation import Operation
from mockserver.contract.violations import Violation
from mockserver.errors import MockServerError
from mockserver.images.measure import UnsupportedImage, measure, read_data_uri
from mockserver.json_text import pointer_to, shorten
from mockserver.redaction import redacted
from mockserver.scenarios.catalogue import Catalogue
from mockserver.scenarios.scenario import Scenario, Urls
from mockserver.scenarios.timeline import TERMINAL, with_deadline

MAX_SPEED = 1_000_000  # times as fast as the wall clock
MIN_MEMORY = 16 * 1024 * 1024  # bytes
MAX_POSTS = 64  # webhooks under way at a time
DISCARD = "http://127.0.0.1:9"  # where `urls: foreign` leads until the server has a decoy
_ADMIN_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Options:
    """How a server behaves where no scenario says otherwise."""

    seed: int = 0
    clock: Mode = "autojump"
    speed: float = 1.0
    scenario: Scenario = field(default_factory=Scenario)
    strict: bool = False
    require_auth: bool = False
    urls: Urls = "local"
    errors: Dialect = "replicate"
    public_url: str | None = None
    webhook_allow: tuple[str, ...] = ()
    files_origin: Literal["same", "separate"] = "same"
    admin_token: str | None = None
    cors: tuple[str, ...] = ()
    also_at: str | None = None
    max_memory: int = MAX_MEMORY


class Backend:
    """The API's behavior, for every tenant of one server."""

    def __init__(self, contract: Contract, catalogue: Catalogue, options: Options) -> None:
        if not 0 < options.speed <= MAX_SPEED:
            raise MockServerError(f"speed {options.speed}: more than 0, and at most {MAX_SPEED:,}")
        if options.max_memory < MIN_MEMORY:
            raise MockServerError(
                f"a memory of {options.max_memory:,} bytes is too little; at least {MIN_MEMORY:,}"
            )
        if options.admin_token is not None and not _ADMIN_TOKEN.fullmatch(options.admin_token):
            raise MockServerError(
                "the admin token is sent in a header: it has letters of ASCII, and no spaces"
            )
        self.contract = contract
        self.catalogue = catalogue
        self.options = options
        bounds = Bounds(bytes=options.max_memory)
        self.store = Store(options.seed, lambda: Clock(options.clock, options.speed), bounds)
        self.metrics = Metrics()
        self.draining = False  # whether the server is about to stop, and takes no new tenants
        self.pictures = Pictures(contract, self.store.cached, self.store.outgoing)
        self.posting = asyncio.Semaphore(MAX_POSTS)
        self.renderer = Renderer(contract, self.pictures, DISCARD, None)

    def with_contract(
        self, contract: Contract, catalogue: Catalogue, scenario: Scenario
    ) -> Backend:
        """A backend that goes by another contract in this one's place: all tenants begin anew."""
        replacement = copy(self)
        replacement.contract, replacement.catalogue = contract, catalogue
        replacement.options = replace(self.options, scenario=scenario)
        pictures = Pictures(contract, self.store.cached, self.store.outgoing)
        replacement.pictures = pictures
        replacement.renderer = Renderer(
            contract, pictures, self.renderer.foreign_url, self.renderer.files_url
        )
        self.pictures.clear()
        for tenant in self.store.tenants():
            self.store.forget(tenant.name)
        return replacement

    def use_scenario(self, scenario: Scenario) -> None:
        """Use another scenario for tenants without one of their own; its faults count afresh."""
        self.options = replace(self.options, scenario=scenario)
        for tenant in self.store.tenants():
            if tenant.scenario is None:
                self.store.set_scenario(tenant, None)

    def scenario(self, tenant: TenantState) -> Scenario:
        """The scenario of a tenant: named by its token's suffix, or set for it, or the server's."""
        if tenant.scenario_suffix and tenant.scenario_suffix in self.catalogue:
            return self.catalogue.named(tenant.scenario_suffix)
        return tenant.scenario or self.options.scenario

    def verdict(self, tenant: TenantState) -> dict[str, Any]:
        """A tenant's journal, judged."""
        progress = tenant.fault_progress()
        verdict = verdict_of(tenant.journal, tenant.deliveries, self.scenario(tenant), progress)
        return redacted(verdict, tenant.secret)

    def verdict_of_all(self) -> dict[str, Any]:
        """The journals of all tenants that have been used, judged."""
        return self.combined(self.verdicts())

    def verdicts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The name and the verdict of each tenant that has been used."""
        used = [tenant for tenant in self.store.tenants() if tenant.journal.recorded]
        return ((tenant.name, self.verdict(tenant)) for tenant in used)

    def combined(self, verdicts: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
        """Verdicts, each with its tenant's name, as one."""
        metrics = self.metrics
        return combine(
            dict(verdicts),
            self.store.evicted_violating,
            answered=metrics.answered(),
            unreadable=metrics.unreadable.total(),
        )

    def check_images(self, operation: Operation, sent: Mapping[str, Any]) -> list[Violation]:
        """What is wrong with the pictures that an input carries as data URIs."""
        violations: list[Violation] = []
        if operation.images.isdisjoint(sent):
            return violations
        for name in operation.picture["images"]:
            value = sent.get(name)
            if isinstance(value, str) and value.startswith("data:"):
                try:
                    measure(read_data_uri(value))
                except UnsupportedImage as reason:
                    violations.append(
                        Violation(
                            pointer_to(("input", name)),
                            "image",
                            f"input.{name}",
                            str(reason),
                            shorten(value),
                            "a base64 data URI of a jpeg, png, gif or webp",
                        )
                    )
        return violations

    def create(
        self,
        tenant: TenantState,
        operation: Operation,
        sent: Mapping[str, Any],
        scenario: Scenario,
        chosen: Scenario | None,
        deadline: int | None = None,
    ) -> Prediction:
        """Create a prediction, of the input that was sent.

        `chosen` is the scenario if the request itself asks for it; `deadline` how long until it is
        given up, in nanoseconds.
        """
        clock, identifier = tenant.clock, tenant.next_id()
        timeline = scenario.timeline
        if scenario.sometimes:
            timeline = scenario.timeline_of(tenant.lifecycle_chance())
        if deadline is not None:
            timeline = with_deadline(timeline, deadline)

        with_defaults = scenario.body.input == "effective"
        kept_input = {**operation.defaults, **sent} if with_defaults else sent
        sends_images = not operation.images.isdisjoint(sent)
        prediction = Prediction(
            identifier,
            operation.operation_id,
            input=compact(msgspec.json.encode(kept_input, order="sorted")),
            given_size=self._given_size(tenant, operation, sent) if sends_images else None,
            created_at=clock.now(),
            created_elapsed=clock.elapsed(),
            timeline=timeline,
            retention=round(scenario.retention * SECOND),
            scenario=chosen,
            deadline=deadline,
        )
        self.store.put(tenant, prediction)
        return prediction

    def find(self, tenant: TenantState, identifier: str) -> Prediction:
        """A tenant's prediction. Raises ApiError (404)."""
        prediction = tenant.predictions.get(identifier)
        if prediction is None:
            raise ApiError(404, hint=f"This token has no prediction {shorten(identifier)}.")
        return prediction

    def observe(self, tenant: TenantState, prediction: Prediction) -> Prediction:
        """The prediction as a client that reads it sees it.

        Under autojump each look moves it on to its next change. Nothing happens between looks, so
        that a run does not depend on how fast a machine is.
        """
        if tenant.clock.mode != "autojump":
            return prediction
        moved = advance_to_next(prediction, prediction.age(tenant.clock.elapsed()))
        if moved is not prediction:
            self.store.replace(tenant, moved)
        return moved

    def cancel(self, tenant: TenantState, prediction: Prediction) -> Prediction:
        """Cancel a prediction, unless it has ended."""
        changed = cancel(prediction, prediction.age(tenant.clock.elapsed()))
        self.store.replace(tenant, changed)
        tenant.activity.wake()
        return changed

    async def follow(
        self, tenant: TenantState, prediction: Prediction, nanoseconds: int
    ) -> Prediction:
        """Follow a prediction until it ends or is forgotten, or for some of its own time."""
        until = prediction.age(tenant.clock.elapsed()) + nanoseconds
        with tenant.activity.follower() as follower:
            while prediction.id in tenant.predictions:
                prediction = tenant.predictions[prediction.id]
                age = prediction.age(tenant.clock.elapsed())
                if stage_at(prediction, age).status in TERMINAL or age >= until:
                    break
                await self.await_next_change(tenant, prediction, follower, until)
        return prediction

    async def await_next_change(
        self,
        tenant: TenantState,
        prediction: Prediction,
        follower: Follower,
        until: int | None = None,
    ) -> None:
        """Go to a prediction's next change, or to an own time of `until` if that comes first.

        Under autojump that is a jump, so that a follower reaches the end at once. Otherwise it
        sleeps until the change is due; it may wake before, and then has to look again.
        """
        elapsed = tenant.clock.elapsed()
        age = prediction.age(elapsed)
        coming = next_stage(prediction, age)
        due = until
        if coming is not None:
            due = coming.at if until is None else min(coming.at, until)
        if due is None:
            await follower.sleep_until(None)
        elif tenant.clock.mode == "autojump":
            self.store.replace(tenant, advance_to(prediction, age, due))
        else:
            await follower.sleep_until(elapsed + due - age)

    def page(
        self, tenant: TenantState, cursor: str | None, length: int, created: range | None = None
    ) -> tuple[list[str], str | None, str | None]:
        """Ids of a page, newest first, and the cursors of the previous and the next page.

        `created` are the milliseconds since the epoch within which they were created; None for any.
        Raises ApiError (404) for a cursor that is not one of the list.
        """
        ids = list(reversed(tenant.predictions))
        if created is not None:
            predictions = tenant.predictions
            ids = [id for id in ids if predictions[id].created_at // MILLISECOND in created]

        start = 0
        if cursor is not None:
            before, anchor = _read_cursor(cursor)
            if anchor not in ids:
                raise ApiError(
                    404,
                    hint="The cursor is not one of this list; take it from `next` or `previous`.",
                )
            place = ids.index(anchor)
            start = max(0, place - length) if before else place + 1

        page = ids[start : start + length]
        previous = _write_cursor("before", page[0]) if page and start > 0 else None
        following = _write_cursor("after", page[-1]) if start + length < len(ids) else None
        return page, previous, following

    async def advance(self, tenant: TenantState, nanoseconds: int) -> list[dict[str, Any]]:
        """Move a tenant's time forward; once all that is due has happened, return it, in order."""
        since = tenant.clock.elapsed()
        tenant.advance(nanoseconds)
        until = tenant.clock.elapsed()
        await tenant.activity.settle()
        happened = [
            (prediction.created_at + stage.at, prediction.id, stage.status)
            for prediction in tenant.predictions.values()
            for stage in entered(prediction, prediction.age(since), prediction.age(until))
        ]
        return [
            {"at": timestamp(at), "prediction": identifier, "status": status}
            for at, identifier, status in sorted(happened, key=lambda event: event[0])
        ]

    def status(self, tenant: TenantState, prediction: Prediction) -> str:
        """The status that a prediction has for its tenant now."""
        return stage_at(prediction, prediction.age(tenant.clock.elapsed())).status

    def deliverable(self, identifier: str, output_format: str) -> Prediction:
        """The prediction whose picture can be fetched, by anybody. Raises ApiError (404)."""
        tenant = self.store.owner(identifier)
        prediction = tenant.predictions.get(identifier) if tenant else None
        if tenant is None or prediction is None:
            raise ApiError(404, hint=f"There is no prediction {shorten(identifier)}.")
        age = prediction.age(tenant.clock.elapsed())
        status = stage_at(prediction, age).status
        if status != "succeeded":
            raise ApiError(
                404, hint=f"The prediction is {status}; a picture is there once it has succeeded."
            )
        if data_removed(prediction, age, tenant.clock.now()):
            raise ApiError(404, hint="The picture has expired.")
        if output_format != (right := self.pictures.output_format(prediction)):
            raise ApiError(404, hint=f"The picture is {right}, not {shorten(output_format)}.")
        return prediction

    def _given_size(
        self, tenant: TenantState, operation: Operation, sent: Mapping[str, Any]
    ) -> tuple[int, int] | None:
        """The size of the first picture in an input of which it can be known."""
        values = [sent.get(name) for name in operation.picture["images"]]
        sizes = (self._known_size(tenant, url) for url in values if isinstance(url, str))
        return next(filter(None, sizes), None)

    def _known_size(self, tenant: TenantState, url: str) -> tuple[int, int] | None:
        """The size of a picture whose URL holds it, or leads to one that the double has."""
        if url.startswith("data:"):
            return measure(read_data_uri(url))
        try:
            path = urlsplit(url).path
        except ValueError:
            return None
        if named := self.store.find_in_path(path):
            return self.pictures.size(named[1])
        for part in path.split("/"):
            if part in tenant.files:
                with suppress(UnsupportedImage):
                    return measure(tenant.files[part].content)
        return None

    def find_file(self, tenant: TenantState, identifier: str) -> StoredFile:
        """A tenant's file, unless it has expired. Raises ApiError (404)."""
        file = tenant.files.get(identifier)
        if file is None or file.expired(tenant.clock.now()):
            raise ApiError(404, hint=f"This token has no file {shorten(identifier)}.")
        return file


def _write_cursor(direction: str, identifier: str) -> str:
    return urlsafe_b64encode(f"{direction} {identifier}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[bool, str]:
    """Whether the page lies before (newer than) a prediction, and which."""
    try:
        direction, identifier = (
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split(" ")
        )
    except ValueError:
        return False, ""
    return direction == "before", identifier
