"""Plays that have ended on a double. Their late requests are not attributed to the next play."""

from __future__ import annotations

from mockserver.backend.backend import Backend
from mockserver.backend.journal import Exchange
from mockserver.backend.prediction import ID
from mockserver.backend.tenant import TenantState


class EarlierPlays:
    """The tokens and predictions of plays that have ended.

    A client may still send requests after its call has returned or was ended: it cancels an
    orphaned prediction in the background, sends a hedged create, or polls once more. Such requests
    carry the token of their own play, or concern one of its predictions.
    """

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._refused: set[str] = set()
        self._predictions: set[str] = set()

    def end(self, backend: Backend, token: str, *, still_running: bool) -> None:
        """End the play with this token, and delete its tenants.

        If the client is `still_running`, its tenant is kept, and refuses all further requests.
        """
        self._tokens.add(token)
        if still_running:
            self._refused.add(token)

        for tenant in backend.store.tenants():
            self._predictions.update(tenant.predictions)
            if tenant.name in self._refused:
                tenant.journal.clear()
            else:
                backend.store.forget(tenant.name)

    def have_sent_requests(self, backend: Backend) -> bool:
        """Whether any request with one of their tokens has arrived since the last of them ended."""
        return any(
            tenant.journal.last_received is not None
            for tenant in backend.store.tenants()
            if self._own(tenant)
        )

    def sent(self, exchange: Exchange, tenant: TenantState) -> bool:
        """Whether an exchange of another tenant than the current play's is from an earlier play."""
        if self._own(tenant):
            return True
        ids = {exchange.prediction_id, *ID.findall(exchange.path)}
        return any(
            prediction_id in self._predictions and prediction_id not in tenant.predictions
            for prediction_id in ids
        )

    def _own(self, tenant: TenantState) -> bool:
        """Whether a tenant is named by one of their tokens, or by one with something around it."""
        return any(token in tenant.name for token in self._tokens)
