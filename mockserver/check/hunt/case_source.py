"""The cases of a hunt: fixed ones, which cover the contract, then sampled ones."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mockserver.check.generate.catalogue import fixed_cases
from mockserver.check.generate.sample import BackgroundSampler, sample_all
from mockserver.check.generate.strategies import cases
from mockserver.check.hunt.plan import Plan
from mockserver.check.model import Case, operation_of
from mockserver.contract.contract import Contract
from mockserver.errors import ScenarioError
from mockserver.scenarios.catalogue import Catalogue


class CaseSource:
    """Provides the cases of a plan for some models of the contract."""

    def __init__(
        self, catalogue: Catalogue, contract: Contract, plan: Plan, models: Sequence[str]
    ) -> None:
        self._catalogue = catalogue
        self._contract = contract
        self._plan = plan
        self._models = models
        self._strategy = cases(catalogue, contract, models)

    def fixed(self) -> list[Case]:
        """The fixed cases as planned, without duplicates."""
        client_timeout = self._plan.limits.client_timeout
        planned: dict[bytes, Case] = {}
        for fixed in fixed_cases(self._contract, self._models, client_timeout):
            case = self.as_planned(fixed)
            planned.setdefault(case.key, case)
        return list(planned.values())

    def is_valid(self, case: Case) -> bool:
        """Whether the scenario of a fixed case is valid in this contract."""
        try:
            self._catalogue.parse(case.scenario)
        except ScenarioError:
            return False
        return True

    def background_sampler(self) -> BackgroundSampler:
        """Samples cases in a thread, inside a `with` block."""
        return BackgroundSampler(self._strategy, self._plan.seed, self._plan.max_runs)

    def sample(self, count: int) -> list[Case]:
        """The first `count` of the cases that the background sampler would yield."""
        return sample_all(self._strategy, self._plan.seed, self._plan.max_runs, count)

    def as_planned(self, case: Case) -> Case:
        """The case with the plan's number of concurrent calls, and only the inputs it names."""
        prompt = operation_of(self._contract, case.model).picture["prompt"]
        inputs = self._plan.inputs
        kept = {
            name: value
            for name, value in case.input.items()
            if inputs is None or name in inputs or name == prompt
        }
        return msgspec.structs.replace(case, input=kept, concurrent=self._plan.concurrent)
