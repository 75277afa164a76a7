"""A prediction as the API shows it: the contract's example of its status, with its own values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from mockserver.backend.pictures import Pictures
from mockserver.backend.prediction import (
    Prediction,
    data_removed,
    effective_timeline,
    stage_at,
    worked,
)
from mockserver.backend.tenant import TenantState
from mockserver.clock import MILLISECOND, seconds, timestamp
from mockserver.contract.contract import Contract
from mockserver.scenarios.scenario import Urls
from mockserver.scenarios.timeline import Stage, Timeline

MAX_TEMPLATES = 1024
_SEED = "\0"  # stands in a template where a prediction's own seed is filled in
_BETWEEN = "\0"  # between the URLs of a template, which are filled in together


class Template(msgspec.Struct, frozen=True):
    """What predictions have in common that have the same operation, timeline, stage and base URL.

    `example` is the contract's example, with logs, error and metrics; `seeded` tells whether a seed
    is to be filled into its logs. `times` are the names of timestamps, and their own times in
    nanoseconds. `url_names` and `urls` are those of its URLs, with ids to be filled in.
    """

    example: dict[str, Any]
    seeded: bool
    times: tuple[tuple[str, int], ...]
    url_names: tuple[str, ...]
    urls: str


class Renderer:
    """Renders predictions by a contract.

    `foreign_url` is where `urls: foreign` leads. `files_url` is the host of the pictures, if they
    have one of their own.
    """

    def __init__(
        self, contract: Contract, pictures: Pictures, foreign_url: str, files_url: str | None
    ) -> None:
        self._contract = contract
        self._pictures = pictures
        self.foreign_url = foreign_url
        self.files_url = files_url
        self._template = lru_cache(MAX_TEMPLATES)(self._build_template)

    def render(
        self,
        tenant: TenantState,
        prediction: Prediction,
        base_url: str,
        urls: Urls,
        *,
        age: int | None = None,
        include_expired: bool = False,
    ) -> dict[str, Any]:
        """A prediction as JSON values.

        `base_url` is the address that the client uses. `age` is the own time at which it is shown,
        in nanoseconds; the present if left out. `include_expired` shows its data even if they have
        expired.
        """
        if age is None:
            age = prediction.age(tenant.clock.elapsed())
        stage = stage_at(prediction, age)
        timeline = effective_timeline(prediction)
        template = self._template(prediction.operation_id, timeline, stage, base_url, urls)

        rendered = template.example.copy()
        rendered["id"] = prediction.id
        decoded_input = rendered["input"] = msgspec.json.decode(prediction.input)
        # To the millisecond: finer timestamps are only those that Replicate's workers write.
        rendered["created_at"] = timestamp(prediction.created_at // MILLISECOND * MILLISECOND)
        if template.url_names:
            filled = template.urls.replace("{prediction_id}", prediction.id).split(_BETWEEN)
            rendered["urls"] = dict(zip(template.url_names, filled, strict=True))
        if template.seeded:
            seed = self._pictures.seed(prediction, decoded_input)
            rendered["logs"] = rendered["logs"].replace(_SEED, str(seed))
        for name, at in template.times:
            rendered[name] = timestamp(prediction.created_at + at)
        if stage.status == "succeeded":
            rendered["output"] = self.output_url(prediction, base_url, decoded_input)
        if prediction.deadline is not None:
            rendered["deadline"] = timestamp(prediction.created_at + prediction.deadline)

        if not include_expired and data_removed(prediction, age, tenant.clock.now()):
            rendered.pop("logs", None)
            rendered.update(input={}, output=None, data_removed=True)
        return rendered

    def output_url(
        self,
        prediction: Prediction,
        base_url: str,
        decoded_input: Mapping[str, Any] | None = None,
    ) -> str:
        """Where a prediction's picture is served; `decoded_input` is its input, if at hand."""
        path = self._contract.url_rules["output"].path.replace("{prediction_id}", prediction.id)
        output_format = self._pictures.output_format(prediction, decoded_input)
        return (self.files_url or base_url) + path.replace("{output_format}", output_format)

    def error(self, stage: Stage) -> str | None:
        """The error of a failed prediction: the scenario's, if it sets one, or the contract's."""
        if stage.error is msgspec.UNSET:
            return str(self._contract.templates[stage.status]["error"])
        return stage.error

    def log_pieces(self, prediction: Prediction, age: int) -> list[tuple[Stage, str]]:
        """The stages entered by an own time of `age`, in nanoseconds, with the logs of each."""
        seed = str(self._pictures.seed(prediction))
        return self._log_pieces(prediction.operation_id, effective_timeline(prediction), age, seed)

    def _log_pieces(
        self, operation_id: str, timeline: Timeline, age: int, seed: str
    ) -> list[tuple[Stage, str]]:
        logs = self._contract.by_id[operation_id].logs
        pieces, started = [], 0
        for stage in timeline:
            if stage.at > age:
                break
            if stage.status == "processing":
                started = stage.at
            text = logs.get(stage.status)
            if text:
                text = text.format(seed=seed, seconds=seconds(stage.at - started))
            pieces.append((stage, text or ""))
        return pieces

    def _build_template(
        self, operation_id: str, timeline: Timeline, stage: Stage, base_url: str, urls: Urls
    ) -> Template:
        example = {
            **self._contract.templates[stage.status],
            "model": self._contract.by_id[operation_id].model,
        }
        if example.get("logs"):
            pieces = self._log_pieces(operation_id, timeline, stage.at, _SEED)
            example["logs"] = "".join(text for _, text in pieces)
        if stage.status == "failed":
            example["error"] = self.error(stage)

        started, ended = worked(timeline, stage)
        times = []
        for name, at in (("started_at", started), ("completed_at", ended)):
            if at is not None and name in example:
                times.append((name, at))
            elif at is None:
                example.pop(name, None)
        if "metrics" in example:
            example["metrics"] = _metrics(example["metrics"], started, ended)
            if not example["metrics"]:
                del example["metrics"]

        filled = {
            name: self._url(name, sample, base_url, urls)
            for name, sample in example.get("urls", {}).items()
        }
        return Template(
            example=example,
            seeded=_SEED in (example.get("logs") or ""),
            times=tuple(times),
            url_names=tuple(filled),
            urls=_BETWEEN.join(filled.values()),
        )

    def _url(self, name: str, sample: str, base_url: str, urls: Urls) -> str:
        """Where a URL of a prediction leads; the contract's sample if it has no rule for it."""
        rule = self._contract.url_rules.get(name)
        if rule is None:
            return sample
        if urls == "documented" and rule.documented:
            return rule.documented
        return (self.foreign_url if urls == "foreign" else base_url) + rule.path


def _metrics(sample: Mapping[str, Any], started: int | None, ended: int | None) -> dict[str, Any]:
    """The metrics of a prediction: how long it took, in seconds, as far as that is known."""
    took = {
        "total_time": ended,
        "predict_time": None if ended is None or started is None else ended - started,
    }
    known = {name: seconds(time) for name, time in took.items() if time is not None}
    return {
        name: known.get(name, value)
        for name, value in sample.items()
        if name in known or name not in took
    }
