"""Pictures of predictions: which size and format they have, drawn when first asked for, and kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from mockserver.contract import Contract, Operation
from mockserver.images import DRAWABLE, draw, nearest_size, parse_ratio
from mockserver.predictions import Prediction

KEPT = 64 * 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Picture:
    """A delivered file."""

    data: bytes
    media_type: str
    etag: str


class Pictures:
    """The pictures of one server's predictions."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._kept: OrderedDict[tuple[str, bytes], Picture] = OrderedDict()
        self._bytes = 0

    def size(
        self, operation: Operation, filled: Mapping[str, Any], known: Callable[[str], tuple[int, int] | None]
    ) -> tuple[int, int]:
        """Width and height of the picture to come: of the sizes there are, the one nearest to what is asked.

        `known` tells the size of a given picture from its URL, as far as that can be known.
        """
        picture = operation.picture
        asked = filled.get(picture["ratio"])
        ratio = parse_ratio(asked) if isinstance(asked, str) else None
        if ratio is None:
            width, height = next(_given_sizes(picture, filled, known), picture["sizes"][0])
            ratio = width / height
        return nearest_size(picture["sizes"], ratio)

    def output_format(self, prediction: Prediction) -> str:
        """The word for the file format that a prediction was asked for."""
        picture = self._contract.by_id[prediction.operation_id].picture
        word = msgspec.json.decode(prediction.input).get(picture["format"])
        return word if word in DRAWABLE else str(picture["default_format"])

    def draw(self, prediction: Prediction) -> Picture:
        """A prediction's picture, drawn when it is first asked for. Slow: call it off the event loop."""
        key = (prediction.id, prediction.input)  # an id comes again after a reset, with another input
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        operation = self._contract.by_id[prediction.operation_id]
        given = msgspec.json.decode(prediction.input)
        width, height = prediction.size
        media_type = DRAWABLE[self.output_format(prediction)]
        data = draw(
            prompt=str(given.get(operation.picture["prompt"], "")),
            caption=(str(operation.model), prediction.id, f"{width} x {height}, seed {prediction.seed}"),
            size=prediction.size,
            media_type=media_type,
            seed=prediction.seed,
        )
        etag = '"' + blake2b(data, digest_size=16).hexdigest() + '"'
        picture = Picture(data, media_type, etag)
        self._keep(key, picture)
        return picture

    def _keep(self, key: tuple[str, bytes], picture: Picture) -> None:
        if key in self._kept:
            return
        self._kept[key] = picture
        self._bytes += len(picture.data)
        while self._bytes > KEPT:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.data)


def _given_sizes(
    picture: Mapping[str, Any], filled: Mapping[str, Any], known: Callable[[str], tuple[int, int] | None]
) -> Iterator[tuple[int, int]]:
    for name in picture["images"]:
        value = filled.get(name)
        if isinstance(value, str) and (size := known(value)):
            yield size
