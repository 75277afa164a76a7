"""Predictions made by hand."""

from mockserver.backend.prediction import Prediction
from mockserver.backend.tenant import TenantState
from mockserver.scenarios.timeline import build_timeline


def prediction(tenant: TenantState, size: int = 10) -> Prediction:
    stages = build_timeline([("succeeded", None, None, 1)])
    return Prediction(tenant.next_id(), "o", b"x" * size, None, 0, 0, stages, 0)
