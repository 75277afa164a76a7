"""Webhooks sent to a client, as exchanges: rules and reports treat them like its own requests."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec

from mockserver.backend.deliveries import Deliveries, Delivery
from mockserver.backend.journal import (
    Exchange,
    RecordedRequest,
    RecordedResponse,
    pack_headers,
)


def webhook_exchanges(deliveries: Deliveries, token: str) -> Iterator[Exchange]:
    """The webhooks that have reached a receiver, including those it has not answered yet.

    Such an exchange is `committed` if the webhook was genuine, so that a client may trust it.
    """
    for delivery in (*deliveries, *deliveries.sending):
        if delivery.sent_at and (delivery.status is not None or delivery in deliveries.sending):
            yield _exchange(delivery, token)


def _exchange(delivery: Delivery, token: str) -> Exchange:
    parts = urlsplit(delivery.url)
    headers = (
        (b"webhook-id", delivery.webhook_id.encode()),
        (b"webhook-timestamp", b"%d" % delivery.timestamp),
    )
    return Exchange(
        number=0,
        tenant_time=0,
        operation_id=None,
        arrived_at="receiver",
        scenario="",
        request=RecordedRequest(
            received_at=delivery.sent_at,
            token=token,
            method="POST",
            path=parts.path or "/",
            query=parts.query.encode(),
            head=pack_headers(((b"content-type", b"application/json"), *headers)),
            body=delivery.body,
            body_size=len(delivery.body),
        ),
        response=RecordedResponse(
            status=delivery.status or 0, content_type="", headers=(), body=b"", body_size=0
        ),
        prediction_id=delivery.prediction_id,
        prediction_status=msgspec.json.decode(delivery.body)["status"],
        committed=delivery.genuine,
    )
