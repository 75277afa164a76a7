"""Pictures of predictions: their size and format; drawn when first requested, and cached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from mockserver.backend.memory import PICTURE, Bounded, Meter, Outgoing
from mockserver.backend.prediction import Prediction
from mockserver.contract.contract import Contract
from mockserver.images.draw import DRAWABLE, draw, nearest_size, parse_ratio

MAX_RATIO = 20  # characters
MAX_CACHED = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it is delivered."""

    data: bytes
    media_type: str
    etag: str


def picture_footprint(picture: Picture) -> int:
    """Bytes that a drawn picture holds."""
    return PICTURE + len(picture.data)


class Pictures:
    """The pictures of one server's predictions."""

    def __init__(
        self, contract: Contract, meter: Meter | None = None, outgoing: Outgoing | None = None
    ) -> None:
        self._contract = contract
        self._kept: Bounded[tuple[object, ...], Picture] = Bounded(
            picture_footprint,
            meter,
            max_bytes=MAX_CACHED,
            on_forget=lambda picture: outgoing.let_go(picture.data) if outgoing else None,
        )

    def clear(self) -> None:
        """Forget what was drawn."""
        self._kept.clear()

    def size(self, prediction: Prediction) -> tuple[int, int]:
        """Width and height of a picture: the available size nearest to what was requested."""
        sizes = self._contract.by_id[prediction.operation_id].picture["sizes"]
        text = self._requested(prediction, "ratio")
        ratio = parse_ratio(text) if isinstance(text, str) and len(text) < MAX_RATIO else None
        if ratio is None:
            width, height = prediction.given_size or sizes[0]
            ratio = width / height
        return nearest_size(sizes, ratio)

    def output_format(
        self, prediction: Prediction, decoded_input: Mapping[str, Any] | None = None
    ) -> str:
        """The word for a picture's file format, such as `jpg`.

        `decoded_input` is the prediction's input, if it is at hand.
        """
        word = self._requested(prediction, "format", decoded_input)
        usual = self._contract.by_id[prediction.operation_id].picture["default_format"]
        return word if word in DRAWABLE else str(usual)

    def seed(self, prediction: Prediction, decoded_input: Mapping[str, Any] | None = None) -> int:
        """The requested seed, or the prediction's own, in the range that Replicate's logs show."""
        requested = self._requested(prediction, "seed", decoded_input)
        if isinstance(requested, int | float):  # to JSON Schema 2.0 is an integer too
            return int(requested)
        return int.from_bytes(blake2b(prediction.id.encode(), digest_size=2).digest(), "big")

    def _requested(
        self, prediction: Prediction, what: str, decoded_input: Mapping[str, Any] | None = None
    ) -> Any:
        """The value of the input that steers something of the picture, or its default."""
        operation = self._contract.by_id[prediction.operation_id]
        name = operation.picture[what]
        if decoded_input is None:
            decoded_input = msgspec.json.decode(prediction.input)
        return decoded_input.get(name, operation.defaults.get(name))

    def draw(self, prediction: Prediction) -> Picture:
        """A prediction's picture, drawn if it is not cached. Slow: call it off the event loop."""
        # After a reset the same id may belong to another input, or to a file of another size.
        key = (
            prediction.id,
            blake2b(prediction.input, digest_size=16).digest(),
            prediction.given_size,
        )
        kept = self._kept.get(key)
        if kept is not None:
            return kept

        operation = self._contract.by_id[prediction.operation_id]
        decoded_input = msgspec.json.decode(prediction.input)
        size, seed = self.size(prediction), self.seed(prediction, decoded_input)
        media_type = DRAWABLE[self.output_format(prediction, decoded_input)]
        data = draw(
            prompt=str(decoded_input.get(operation.picture["prompt"], "")),
            caption=(str(operation.model), prediction.id, f"{size[0]} x {size[1]}, seed {seed}"),
            size=size,
            media_type=media_type,
            seed=seed,
        )

        etag = '"' + blake2b(data, digest_size=16).hexdigest() + '"'
        picture = Picture(data, media_type, etag)
        if key not in self._kept:  # another thread may have drawn it meanwhile
            self._kept.put(key, picture)
        return picture
