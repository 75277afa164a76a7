"""The plan of a hunt."""

from __future__ import annotations

from dataclasses import dataclass, field

from mockserver.check.hunt.harness import Limits
from mockserver.check.report.findings import Finding
from mockserver.check.rules.registry import RULES
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError

ENDLESS_RUNS = 4  # fixed cases that only the client's own timeout ends


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a hunt lasts, and what it looks for.

    Attributes:
        models: The models to call; empty for all models of the contract.
        max_runs: The number of cases to judge.
        budget: Seconds of wall time.
        seed: Determines which cases are sampled.
        ignore: Codes of rules that are not looked for.
        limits: What the client is held to.
        known: The findings of the baseline, which are accepted.
        jobs: The number of cases played in parallel.
        concurrent: The number of concurrent calls in each case.
        inputs: The inputs that the client passes on, besides the prompt; None for all.
    """

    models: tuple[str, ...] = ()
    max_runs: int = 300
    budget: float = 30.0
    seed: int = 0
    ignore: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    known: tuple[Finding, ...] = ()
    jobs: int = 1
    concurrent: int = 1
    inputs: frozenset[str] | None = None


def model_names(contract: Contract) -> tuple[str, ...]:
    """All models of the contract."""
    return tuple(contract.models)


def check_plan(plan: Plan, contract: Contract) -> None:
    """Make sure that a plan names only what exists, and that its budget is long enough.

    Raises MockServerError.
    """
    models = model_names(contract)
    if not models:
        raise MockServerError(
            f"contract {contract.name}: no operation creates predictions, so there is nothing to "
            "check; choose another --contract"
        )
    if unknown := [model for model in plan.models if model not in models]:
        raise MockServerError(f"the contract has no model {unknown[0]}; it has {', '.join(models)}")

    if unknown := [code for code in plan.ignore if code not in RULES]:
        raise MockServerError(f"there is no rule {unknown[0]}; `mockserver rules` lists them")

    inputs = {name for model in plan.models or models for name in contract.models[model].input}
    if unknown := sorted((plan.inputs or frozenset()) - inputs):
        raise MockServerError(
            f"no model has an input {unknown[0]}; there are: {', '.join(sorted(inputs))}"
        )

    limits = plan.limits
    needed = ENDLESS_RUNS * limits.longest
    if limits.client_timeout is not None and plan.budget < needed:
        raise MockServerError(
            f"a budget of at least {needed:g} s is needed, not {plan.budget:g}: {ENDLESS_RUNS} "
            f"cases last until the client timeout of {limits.client_timeout:g} s; raise --budget"
        )
