"""The API in plain Python, without HTTP: create, look, cancel, list, deliver."""

from __future__ import annotations

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
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
    effective_timeline,
    entered,
    next_stage,
    stage_at,
    worked,
)
from mockserver.backend.store import MAX_MEMORY, Bounds, Store
from mockserver.backend.tenant import TenantState
from mockserver.backend.verdict import combine, verdict_of
from mockserver.clock import MILLISECOND, SECOND, Clock, Mode, seconds, timestamp
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
from mockserver.scenarios.timeline import TERMINAL, Stage, Timeline, with_deadline

MAX_SPEED = 1_000_000  # times as fast as the wall clock
MIN_MEMORY = 16 * 1024 * 1024  # bytes
MAX_POSTS = 64  # webhooks under way at a time
_ADMIN_TOKEN = re.compile(r"[!-~]+")
_SEED = "\0"  # stands where a prediction's own is to be filled in


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


class ResponseTemplate(msgspec.Struct, frozen=True):
    """What all predictions of an operation have in common that are at a stage of a timeline, and shown at an origin.

    `shown` is the contract's example, with logs, error and metrics; `seeded` whether a seed is to
    be filled into its logs. `times` are the names of timestamps, and their own times in
    nanoseconds. `names` and `addresses` are those of its URLs, with NULs between and ids to be
    filled in.
    """

    shown: dict[str, Any]
    seeded: bool
    times: tuple[tuple[str, int], ...]
    names: tuple[str, ...]
    addresses: str


class Backend:
    """The API's behaviour, for every tenant of one server."""

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
        self.foreign_origin = "http://127.0.0.1:9"  # the discard port, until the server has a decoy
        self.files_origin: str | None = (
            None  # a host of its own for pictures, once the server has one
        )
        self.metrics = Metrics()
        self.draining = False  # whether the server is about to stop, and wants no new tenants
        self.pictures = Pictures(contract, self.store.cached, self.store.outgoing)
        self.posting = asyncio.Semaphore(MAX_POSTS)
        self._template = lru_cache(1024)(self._build_template)

    def with_contract(
        self, contract: Contract, catalogue: Catalogue, scenario: Scenario
    ) -> Backend:
        """A gateway that goes by another contract in this one's place: all tenants begin anew."""
        replacement = copy(self)
        replacement.contract, replacement.catalogue = contract, catalogue
        replacement.options = replace(self.options, scenario=scenario)
        replacement.pictures = Pictures(contract, self.store.cached, self.store.outgoing)
        replacement._template = lru_cache(1024)(replacement._build_template)
        self.pictures.clear()
        for tenant in self.store.tenants():
            self.store.forget(tenant.name)
        return replacement

    def use_scenario(self, scenario: Scenario) -> None:
        """Behave by another scenario where no tenant has one of its own; its faults are counted afresh."""
        self.options = replace(self.options, scenario=scenario)
        for tenant in self.store.tenants():
            if tenant.scenario is None:
                self.store.set_scenario(tenant, None)

    def scenario(self, tenant: TenantState) -> Scenario:
        """The scenario in force for a tenant: named by its token's suffix, or set for it, or the server's."""
        if tenant.scenario_suffix in self.catalogue:
            return self.catalogue.named(tenant.scenario_suffix)
        return tenant.scenario or self.options.scenario

    def verdict(self, tenant: TenantState) -> dict[str, Any]:
        """A tenant's journal, judged."""
        progress = tenant.fault_progress()
        found = verdict_of(tenant.journal, tenant.deliveries, self.scenario(tenant), progress)
        return redacted(found, tenant.secret)

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

    def check_images(self, operation: Operation, given: Mapping[str, Any]) -> list[Violation]:
        """What is wrong with the pictures that an input carries as data URIs."""
        found: list[Violation] = []
        if operation.images.isdisjoint(given):
            return found
        for name in operation.picture["images"]:
            value = given.get(name)
            if isinstance(value, str) and value.startswith("data:"):
                try:
                    measure(read_data_uri(value))
                except UnsupportedImage as reason:
                    field = f"input.{name}"
                    place = pointer_to(("input", name))
                    allowed = "a base64 data URI of a jpeg, png, gif or webp"
                    found.append(
                        Violation(place, "image", field, str(reason), shorten(value), allowed)
                    )
        return found

    def create(
        self,
        tenant: TenantState,
        operation: Operation,
        given: Mapping[str, Any],
        scenario: Scenario,
        chosen: Scenario | None,
        deadline: int | None = None,
    ) -> Prediction:
        """Create a prediction.

        `chosen` is the scenario if the request itself asks for it; `deadline` how long until it is
        given up, in nanoseconds.
        """
        clock, identifier = tenant.clock, tenant.next_id()
        timeline = (
            scenario.timeline_of(tenant.draw_lifecycle())
            if scenario.sometimes
            else scenario.timeline
        )
        prediction = Prediction(
            identifier,
            operation.operation_id,
            input=compact(
                msgspec.json.encode(
                    {**operation.defaults, **given}
                    if scenario.body.input == "effective"
                    else given,
                    order="sorted",
                )
            ),
            given_size=None
            if operation.images.isdisjoint(given)
            else self._given_size(tenant, operation, given),
            created_at=clock.now(),
            created_elapsed=clock.elapsed(),
            timeline=timeline if deadline is None else with_deadline(timeline, deadline),
            retention=round(scenario.retention * SECOND),
            scenario=chosen,
            deadline=deadline,
        )
        self.store.put(tenant, prediction)
        tenant.coverage.record_input(operation.operation_id, operation.known.intersection(given))
        return prediction

    def find(self, tenant: TenantState, identifier: str) -> Prediction:
        """A tenant's prediction. Raises ApiError (404)."""
        found = tenant.predictions.get(identifier)
        if found is None:
            raise ApiError(404, hint=f"This token has no prediction {shorten(identifier)}.")
        return found

    def observe(self, tenant: TenantState, prediction: Prediction) -> Prediction:
        """The prediction as a client that reads it sees it: under autojump it has moved on to its next change."""
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
        """Follow a prediction until it has ended or is forgotten, or for that much of its own time."""
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

        Under autojump that is a jump; else the follower sleeps, and may be woken before, to look
        again.
        """
        elapsed = tenant.clock.elapsed()
        age = prediction.age(elapsed)
        coming = next_stage(prediction, age)
        due = until if coming is None else coming.at if until is None else min(coming.at, until)
        if due is None:
            await follower.sleep_until(None)
        elif tenant.clock.mode == "autojump":
            self.store.replace(tenant, advance_to(prediction, age, due))
        else:
            await follower.sleep_until(elapsed + due - age)

    def page(
        self, tenant: TenantState, cursor: str | None, length: int, created: range | None = None
    ) -> tuple[list[str], str | None, str | None]:
        """Ids of a page, newest first, and the cursors of the previous and the next one. Raises ApiError (404).

        `created` are the milliseconds since the epoch within which they were created, if not any.
        """
        ids = list(reversed(tenant.predictions))
        if created is not None:
            ids = [
                each
                for each in ids
                if tenant.predictions[each].created_at // MILLISECOND in created
            ]
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
        shown = ids[start : start + length]
        previous = _write_cursor("before", shown[0]) if shown and start > 0 else None
        following = _write_cursor("after", shown[-1]) if start + length < len(ids) else None
        return shown, previous, following

    async def advance(self, tenant: TenantState, nanoseconds: int) -> list[dict[str, Any]]:
        """Move a tenant's time forward, and once all that is due has happened, tell what did, in order."""
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

    def render(
        self,
        tenant: TenantState,
        prediction: Prediction,
        origin: str,
        urls: Urls,
        *,
        age: int | None = None,
        include_expired: bool = False,
    ) -> dict[str, Any]:
        """A prediction as the API sends it: the contract's example of its status, with its own values.

        `age` is the own time at which it is shown, in nanoseconds; the present if left out.
        `include_expired` shows its data even if they have expired.
        """
        if age is None:
            age = prediction.age(tenant.clock.elapsed())
        stage = stage_at(prediction, age)
        template = self._template(
            prediction.operation_id, effective_timeline(prediction), stage, origin, urls
        )
        shown = template.shown.copy()
        shown["id"] = prediction.id
        given = shown["input"] = msgspec.json.decode(prediction.input)
        shown["created_at"] = timestamp(
            prediction.created_at // MILLISECOND * MILLISECOND
        )  # finer ones are upstream's own
        if template.names:
            addresses = template.addresses.replace("{prediction_id}", prediction.id).split("\0")
            shown["urls"] = dict(zip(template.names, addresses, strict=True))
        if template.seeded:
            shown["logs"] = shown["logs"].replace(_SEED, str(self.pictures.seed(prediction, given)))
        for name, at in template.times:
            shown[name] = timestamp(prediction.created_at + at)
        if stage.status == "succeeded":
            shown["output"] = self.output_url(prediction, origin, given)
        if prediction.deadline is not None:
            shown["deadline"] = timestamp(prediction.created_at + prediction.deadline)
        if not include_expired and data_removed(prediction, age, tenant.clock.now()):
            shown.pop("logs", None)
            shown.update(input={}, output=None, data_removed=True)
        return shown

    def status(self, tenant: TenantState, prediction: Prediction) -> str:
        """The status that a prediction has for its tenant now."""
        return stage_at(prediction, prediction.age(tenant.clock.elapsed())).status

    def error_of(self, stage: Stage) -> str | None:
        """What a failed prediction says of itself: the scenario's words, if any, or the contract's example."""
        if stage.error is msgspec.UNSET:
            return str(self.contract.templates[stage.status]["error"])
        return stage.error

    def output_url(
        self, prediction: Prediction, origin: str, given: Mapping[str, Any] | None = None
    ) -> str:
        """Where the double serves a prediction's picture; `given` is its input, if that is at hand."""
        path = self.contract.url_rules["output"].path.replace("{prediction_id}", prediction.id)
        output_format = self.pictures.output_format(prediction, given)
        return (self.files_origin or origin) + path.replace("{output_format}", output_format)

    def deliverable(self, identifier: str, output_format: str) -> Prediction:
        """The prediction whose picture can be fetched, by anybody who has the URL. Raises ApiError (404)."""
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

    def _build_template(
        self, operation_id: str, timeline: Timeline, stage: Stage, origin: str, urls: Urls
    ) -> ResponseTemplate:
        shown = {
            **self.contract.templates[stage.status],
            "model": self.contract.by_id[operation_id].model,
        }
        if shown.get("logs"):
            shown["logs"] = "".join(
                text for _, text in self._log_pieces(operation_id, timeline, stage.at, _SEED)
            )
        if stage.status == "failed":
            shown["error"] = self.error_of(stage)
        started, ended = worked(timeline, stage)
        times = {
            name: at
            for name, at in (("started_at", started), ("completed_at", ended))
            if name in shown
        }
        if "metrics" in shown:
            shown["metrics"] = _metrics(shown["metrics"], started, ended)
            if not shown["metrics"]:
                del shown["metrics"]
        for name, at in times.items():
            if at is None:
                del shown[name]
        addresses = {}
        for name, example in shown.get("urls", {}).items():
            rule = self.contract.url_rules.get(name)
            if rule is None:
                addresses[name] = example
            elif urls == "documented" and rule.documented:
                addresses[name] = rule.documented
            else:
                addresses[name] = (self.foreign_origin if urls == "foreign" else origin) + rule.path
        return ResponseTemplate(
            shown=shown,
            seeded=_SEED in (shown.get("logs") or ""),
            times=tuple((name, at) for name, at in times.items() if at is not None),
            names=tuple(addresses),
            addresses="\0".join(addresses.values()),
        )

    def log_pieces(self, prediction: Prediction, age: int) -> list[tuple[Stage, str]]:
        """The stages entered by an own time of `age`, in nanoseconds, each with what the model wrote on entering."""
        seed = str(self.pictures.seed(prediction))
        return self._log_pieces(prediction.operation_id, effective_timeline(prediction), age, seed)

    def _log_pieces(
        self, operation_id: str, timeline: Timeline, age: int, seed: str
    ) -> list[tuple[Stage, str]]:
        written = self.contract.by_id[operation_id].logs
        pieces, started = [], 0
        for stage in timeline:
            if stage.at > age:
                break
            if stage.status == "processing":
                started = stage.at
            text = written.get(stage.status)
            pieces.append(
                (stage, text.format(seed=seed, seconds=seconds(stage.at - started)) if text else "")
            )
        return pieces

    def _given_size(
        self, tenant: TenantState, operation: Operation, given: Mapping[str, Any]
    ) -> tuple[int, int] | None:
        """The size of the first picture in an input of which it can be known."""
        urls = [
            given[name] for name in operation.picture["images"] if isinstance(given.get(name), str)
        ]
        return next(filter(None, (self._known_size(tenant, url) for url in urls)), None)

    def _known_size(self, tenant: TenantState, url: str) -> tuple[int, int] | None:
        """The size of a picture, if the URL holds it, or leads to one that the double made or was given."""
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
        """A tenant's file, unless its day is over. Raises ApiError (404)."""
        found = tenant.files.get(identifier)
        if found is None or found.expired(tenant.clock.now()):
            raise ApiError(404, hint=f"This token has no file {shorten(identifier)}.")
        return found


def _metrics(example: Mapping[str, Any], started: int | None, ended: int | None) -> dict[str, Any]:
    """The metrics of a prediction: how long it took, in seconds, as far as that is known."""
    took = {
        "total_time": ended,
        "predict_time": None if ended is None or started is None else ended - started,
    }
    known = {name: seconds(time) for name, time in took.items() if time is not None}
    return {
        name: known.get(name, value)
        for name, value in example.items()
        if name in known or name not in took
    }


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
