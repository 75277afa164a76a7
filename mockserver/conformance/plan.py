"""The requests of `mockserver verify`, in order, and what they may cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from mockserver.backend.prediction import prediction_id
from mockserver.conformance.fuzz import fuzzed_creates
from mockserver.conformance.inputs import JSON, forbidden_by_version, forbidden_creates, valid_input
from mockserver.contract.contract import METHODS, Contract
from mockserver.contract.operation import Operation
from mockserver.errors import MockServerError

Auth = Literal["given", "none", "wrong"]
Way = Literal["follow", "cancel", "wait"]


class Probe(NamedTuple):
    """One request. If `creates`, a gateway that accepts it makes a prediction, and bills it."""

    title: str
    operation: Operation
    method: str
    path: str
    media_type: str = ""
    body: bytes | None = None
    auth: Auth = "given"
    must_refuse: bool = False
    creates: bool = False


class LifeProbe(NamedTuple):
    """One prediction that is followed to its end, canceled, or created with `Prefer: wait`."""

    title: str
    operation: Operation
    way: Way
    body: bytes


class VerifyPlan(NamedTuple):
    """All requests: free ones, creates that must be rejected, and predictions that are billed."""

    free: Sequence[Probe]
    forbidden: Sequence[Probe]
    lives: Sequence[LifeProbe]

    def describe(self, spend: int) -> list[str]:
        """The plan in lines, with its maximum cost."""
        lines = [f"{len(self.free)} requests that cost nothing:"]
        lines += [f"  {probe.method:<6} {probe.path}  ({probe.title})" for probe in self.free]
        if not spend:
            left = len(self.forbidden) + len(self.lives)
            return [
                *lines,
                f"{left} creates are left out: --spend N allows N predictions to be billed",
                "billed at most: 0",
            ]
        lines.append(
            f"{len(self.forbidden)} creates that must be rejected; one that is accepted is billed, "
            "and canceled immediately:"
        )
        lines += [f"  {probe.method:<6} {probe.path}  ({probe.title})" for probe in self.forbidden]
        lines.append(f"{len(self.lives)} predictions, within the spend limit:")
        lines += [
            f"  {life.operation.method:<6} {life.operation.path}  ({life.title})"
            for life in self.lives
        ]
        return [*lines, f"billed at most: {spend} predictions"]


def plan_for(contract: Contract, seed: bytes, fuzz: int = 0) -> VerifyPlan:
    """The plan for a contract. Raises MockServerError if it has no predictions.

    `seed` determines the unknown id, `fuzz` is the number of generated creates.
    """
    creates = list(contract.models.values())
    if not creates or contract.reader is None:
        raise MockServerError(
            f"the contract {contract.name} has no predictions, so there is nothing to verify"
        )
    unknown = prediction_id("000", seed, 0)
    wrong = [
        (operation, forbidden)
        for operation in creates
        for forbidden in forbidden_creates(contract, operation)
    ]
    for operation in _by_version(contract):
        wrong += [
            (operation, forbidden)
            for forbidden in forbidden_by_version(contract, operation, creates[0])
        ]
    for number, operation in enumerate(creates):
        share = fuzz // len(creates) + (number < fuzz % len(creates))
        wrong += [(operation, fuzzed) for fuzzed in fuzzed_creates(contract, operation, share)]
    forbidden = [
        Probe(
            create.wrong,
            operation,
            operation.method,
            operation.path,
            create.media_type,
            create.body,
            must_refuse=True,
            creates=True,
        )
        for operation, create in wrong
    ]
    return VerifyPlan(
        list(_free(contract, contract.reader, unknown)), forbidden, list(_lives(contract, creates))
    )


def _by_version(contract: Contract) -> list[Operation]:
    """The operations that create a prediction of a model that the body names."""
    return [operation for operation in contract.of_role("create") if operation.model is None]


def _free(contract: Contract, reader: Operation, unknown: str) -> Iterator[Probe]:
    path = reader.path.replace("{prediction_id}", unknown)
    yield Probe("an unknown id", reader, reader.method, path, must_refuse=True)
    for cancel in contract.of_role("cancel"):
        yield Probe(
            "an unknown id",
            cancel,
            cancel.method,
            _filled(cancel, unknown),
            must_refuse=True,
        )
    for role in ("create", "cancel", "get"):
        for operation in contract.of_role(role):
            method = _wrong_method(contract, operation)
            if method is not None:
                yield Probe(
                    "a wrong method",
                    operation,
                    method,
                    _filled(operation, unknown),
                    must_refuse=True,
                )
    for operation in contract.of_role("list"):
        yield Probe("the list", operation, operation.method, operation.path)
    for operation in contract.of_role("model"):
        for model in contract.models:
            owner, name = model.split("/")
            yield Probe("a model", operation, operation.method, _model_path(operation, owner, name))
        missing = _model_path(operation, "mockserver-verify", unknown)
        yield Probe("an unknown model", operation, operation.method, missing, must_refuse=True)
    yield Probe("no token", reader, reader.method, path, auth="none", must_refuse=True)
    yield Probe("a wrong token", reader, reader.method, path, auth="wrong", must_refuse=True)


def _filled(operation: Operation, identifier: str) -> str:
    return operation.path.replace("{prediction_id}", identifier)


def _model_path(operation: Operation, owner: str, name: str) -> str:
    return operation.path.replace("{model_owner}", owner).replace("{model_name}", name)


def _wrong_method(contract: Contract, operation: Operation) -> str | None:
    """A method that a path does not have, and that is harmless if it is accepted."""
    methods = {
        name.upper() for name in METHODS if name in contract.document["paths"][operation.path]
    }
    if "GET" not in methods:
        return "GET"
    return "DELETE" if "DELETE" not in methods and "{prediction_id}" in operation.path else None


def _lives(contract: Contract, creates: Sequence[Operation]) -> Iterator[LifeProbe]:
    first, *others = creates
    bodies = {
        operation.operation_id: msgspec.json.encode({"input": valid_input(contract, operation)})
        for operation in creates
    }
    body = bodies[first.operation_id]
    yield LifeProbe(f"{first.model}, followed to its end", first, "follow", body)
    if contract.of_role("cancel"):
        yield LifeProbe(f"{first.model}, canceled", first, "cancel", body)
    for other in others:
        yield LifeProbe(
            f"{other.model}, followed to its end", other, "follow", bodies[other.operation_id]
        )
    yield LifeProbe(f"{first.model}, with Prefer: wait", first, "wait", body)
    for operation in _by_version(contract):
        value = {"version": first.model, "input": valid_input(contract, first)}
        yield LifeProbe(
            f"{first.model}, by its version", operation, "follow", msgspec.json.encode(value)
        )


def request_headers(probe: Probe, token: str) -> dict[str, str]:
    """The headers that a probe is sent with."""
    headers = {"content-type": probe.media_type or JSON} if probe.body is not None else {}
    if token and probe.auth != "none":
        headers["authorization"] = f"Bearer {token}"
    return headers
