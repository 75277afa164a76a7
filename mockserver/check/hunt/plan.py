"""What a hunt is to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from mockserver.check.hunt.harness import Limits
from mockserver.check.report.findings import Finding
from mockserver.check.rules.registry import RULES
from mockserver.contract.contract import Contract
from mockserver.errors import MockServerError

ENDLESS_RUNS = 4  # the fixed cases that only the client's own timeout ends


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a hunt goes on, and what it looks for.

    `models` are all of the contract's if none is named. `budget` is in seconds of wall time;
    `ignore` holds rules that are not looked for, `known` the findings of the baseline. `jobs` is
    how many cases are played at once, `concurrent` how many calls are made at once in each.
    `inputs` are the inputs that the client passes on, the prompt aside; None for all.
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
    """Every model that the contract has."""
    return tuple(contract.models)


def check_plan(plan: Plan, contract: Contract) -> None:
    """Make sure that a plan names only what there is. Raises MockServerError."""
    known = model_names(contract)
    if not known:
        raise MockServerError(
            f"contract {contract.name}: nothing in it creates predictions, so there is nothing to check"
        )
    if unknown := [model for model in plan.models if model not in known]:
        raise MockServerError(f"the contract has no model {unknown[0]}; it has {', '.join(known)}")
    if unknown := [code for code in plan.ignore if code not in RULES]:
        raise MockServerError(f"there is no rule {unknown[0]}; `mockserver rules` lists them")
    inputs = {name for model in plan.models or known for name in contract.models[model].input}
    if unknown := sorted((plan.inputs or frozenset()) - inputs):
        raise MockServerError(
            f"no model has an input {unknown[0]}; there are: {', '.join(sorted(inputs))}"
        )
    limits = plan.limits
    if limits.client_timeout is not None and plan.budget < ENDLESS_RUNS * limits.longest:
        raise MockServerError(
            f"a client timeout of {limits.client_timeout:g} s is waited for {ENDLESS_RUNS} times, so a budget of at "
            f"least {ENDLESS_RUNS * limits.longest:g} s is needed, not {plan.budget:g}"
        )
