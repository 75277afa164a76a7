"""What the double served during a run: pictures, their bytes, and how predictions ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mockserver.backend.backend import Backend
from mockserver.check.model import DoubleError, Run, fault_of

MAX_QUOTED = 500  # characters of a response that broke the contract


def with_served(backend: Backend, run: Run, origin: str, *, draw: bool) -> Run:
    """The run, with the outputs and final statuses of its predictions.

    `origin` is scheme and host of the double. Pictures are drawn only with `draw`, because that
    takes a while.
    """
    predictions = backend.store.tenant(run.token).predictions.values()
    urls = {
        prediction.id: backend.renderer.output_url(prediction, origin) for prediction in predictions
    }
    statuses = {prediction.id: prediction.timeline[-1].status for prediction in predictions}
    bodies = (
        {prediction.id: backend.pictures.draw(prediction).data for prediction in predictions}
        if draw
        else {}
    )
    return replace(
        run,
        pictures=urls,
        outputs=frozenset(urls.values()),
        final_statuses=statuses,
        bodies=bodies,
        delivered=tuple(_delivered(run, bodies)),
    )


def _delivered(run: Run, bodies: Mapping[str, bytes]) -> Iterator[bytes]:
    """The bodies that a client which downloads the picture may return.

    Each was delivered whole, as far as HTTP framing tells. These are the pictures, and what a
    fault made of them under a matching Content-Length: no client can tell that such a body is not
    the picture without decoding it.
    """
    yield from bodies.values()

    # The journal does not keep pictures, but it keeps the size of a spoiled one.
    for exchange in run.exchanges:
        picture = bodies.get(exchange.prediction_id or "")
        is_faulty_read = (
            exchange.method == "GET" and exchange.status == 200 and exchange.fault is not None
        )
        if picture is None or not is_faulty_read:
            continue
        if run.role(exchange) == "deliver" and fault_of(exchange).kind == "body":
            yield picture[: exchange.response.body_size]


def check_double(run: Run) -> None:
    """Raise DoubleError if the double withheld a response that its contract does not allow."""
    for exchange in run.exchanges:
        if exchange.status == 500 and exchange.fault is None:
            response = exchange.response.body.decode("utf-8", "replace")[:MAX_QUOTED]
            raise DoubleError(f"the double broke its own contract, please report it: {response}")
