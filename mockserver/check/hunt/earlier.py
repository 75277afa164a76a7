"""Plays that have ended on a double. What still arrives of them is never judged as the next play's."""

from __future__ import annotations

from mockserver.backend.backend import Backend
from mockserver.backend.journal import Exchange
from mockserver.backend.prediction import ID
from mockserver.backend.tenant import TenantState


class EarlierPlays:
    """The tokens and predictions of plays that have ended.

    A client may go on after its call has returned, or was ended: it cancels an orphan in the
    background, sends a hedged create, polls once more. It does so under the token of its own play,
    or about a prediction of it.
    """

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._refused: set[str] = set()
        self._predictions: set[str] = set()

    def end(self, backend: Backend, token: str, *, still_running: bool) -> None:
        """End the play with this token, and forget what the double remembers of it.

        A client that is `still_running` is refused whatever it sends from here on.
        """
        self._tokens.add(token)
        if still_running:
            self._refused.add(token)

        for tenant in backend.store.tenants():
            self._predictions.update(tenant.predictions)
            if tenant.name not in self._refused:
                backend.store.forget(tenant.name)

    def are_heard(self, backend: Backend) -> bool:
        """Whether any request under their tokens has arrived since the last of them ended."""
        return any(
            tenant.journal.recorded
            for tenant in backend.store.tenants()
            if any(token in tenant.name for token in self._tokens)
        )

    def sent(self, exchange: Exchange, tenant: TenantState) -> bool:
        """Whether an exchange under a token that is not the current play's belongs to an earlier play."""
        if any(token in tenant.name for token in self._tokens):
            return True
        named = {exchange.prediction_id, *ID.findall(exchange.path)}
        return any(
            prediction in self._predictions and prediction not in tenant.predictions
            for prediction in named
        )
