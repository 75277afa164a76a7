"""Pictures of predictions: which size and format they have, drawn when first asked for, and kept for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from mockserver.backend.memory import Bounded, Meter, Outgoing
from mockserver.backend.prediction import Prediction
from mockserver.contract.contract import Contract
from mockserver.images.draw import DRAWABLE, draw, nearest_size, parse_ratio

MAX_RATIO = 20  # characters
MAX_CACHED = 64 * 1024 * 1024  # bytes
PICTURE = 300  # bytes that one holds beside its data, about


@dataclass(frozen=True, slots=True)
class Picture:
    """A delivered file."""

    data: bytes
    media_type: str
    etag: str


class Pictures:
    """The pictures of one server's predictions."""

    def __init__(
        self, contract: Contract, meter: Meter | None = None, outgoing: Outgoing | None = None
    ) -> None:
        self._contract = contract
        self._kept: Bounded[tuple[object, ...], Picture] = Bounded(
            _footprint,
            meter,
            max_bytes=MAX_CACHED,
            on_forget=lambda picture: outgoing.let_go(picture.data) if outgoing else None,
        )

    def clear(self) -> None:
        """Forget what was drawn."""
        self._kept.clear()

    def size(self, prediction: Prediction) -> tuple[int, int]:
        """Width and height of a picture: of the sizes there are, the one nearest to what was asked."""
        sizes = self._contract.by_id[prediction.operation_id].picture["sizes"]
        asked = self._asked(prediction, "ratio")
        ratio = parse_ratio(asked) if isinstance(asked, str) and len(asked) < MAX_RATIO else None
        if ratio is None:
            width, height = prediction.given_size or sizes[0]
            ratio = width / height
        return nearest_size(sizes, ratio)

    def output_format(self, prediction: Prediction, given: Mapping[str, Any] | None = None) -> str:
        """The word for the file format that a prediction was asked for; `given` is its input, if that is at hand."""
        word = self._asked(prediction, "format", given)
        usual = self._contract.by_id[prediction.operation_id].picture["default_format"]
        return word if word in DRAWABLE else str(usual)

    def seed(self, prediction: Prediction, given: Mapping[str, Any] | None = None) -> int:
        """The seed that a prediction was asked for, or one of its own, in the range that upstream's logs show."""
        asked = self._asked(prediction, "seed", given)
        if isinstance(asked, int | float):  # to JSON Schema 2.0 is an integer too
            return int(asked)
        return int.from_bytes(blake2b(prediction.id.encode(), digest_size=2).digest(), "big")

    def _asked(
        self, prediction: Prediction, what: str, given: Mapping[str, Any] | None = None
    ) -> Any:
        operation = self._contract.by_id[prediction.operation_id]
        name = operation.picture[what]
        given = msgspec.json.decode(prediction.input) if given is None else given
        return given.get(name, operation.defaults.get(name))

    def draw(self, prediction: Prediction) -> Picture:
        """A prediction's picture, drawn when it is first asked for. Slow: call it off the event loop."""
        # An id comes again after a reset, with another input, or a file of another size.
        key = (
            prediction.id,
            blake2b(prediction.input, digest_size=16).digest(),
            prediction.given_size,
        )
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        operation = self._contract.by_id[prediction.operation_id]
        given = msgspec.json.decode(prediction.input)
        size, seed = self.size(prediction), self.seed(prediction)
        media_type = DRAWABLE[self.output_format(prediction)]
        data = draw(
            prompt=str(given.get(operation.picture["prompt"], "")),
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


def _footprint(picture: Picture) -> int:
    """Bytes held in memory, about."""
    return PICTURE + len(picture.data)
