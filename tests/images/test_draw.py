"""The picture: what comes in is measured without trust, what goes out is drawn from its arguments alone."""

import io
import subprocess
import sys
from base64 import b64encode
from hashlib import sha256
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mockserver.images.draw import DRAWABLE, draw, nearest_size, parse_ratio
from mockserver.images.measure import UnsupportedImage, measure, read_data_uri

SIDES = st.integers(1, 64)
KINDS = st.sampled_from(["JPEG", "PNG", "GIF", "WEBP"])


def encoded(kind: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, kind)
    return out.getvalue()


def drawn(prompt: str = "a lighthouse", seed: int = 1, media_type: str = "image/png") -> bytes:
    return draw(
        prompt=prompt,
        caption=("owner/name", "id"),
        size=(160, 96),
        media_type=media_type,
        seed=seed,
    )


@given(KINDS, SIDES, SIDES)
@settings(deadline=None, max_examples=50)
def test_the_four_formats_are_measured(kind: str, width: int, height: int) -> None:
    assert measure(encoded(kind, width, height)) == (width, height)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImage, match="jpeg, png, gif or webp"):
        measure(data)


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImage):
        measure(encoded(kind, 4, 4))


@pytest.mark.parametrize("side", [12_000, 50_000])
def test_a_decompression_bomb_is_never_unpacked(side: int) -> None:
    header = encoded("PNG", 1, 1)
    chunk = b"IHDR" + side.to_bytes(4, "big") * 2 + header[24:29]
    bomb = header[:12] + chunk + crc32(chunk).to_bytes(4, "big") + header[33:]
    if side == 12_000:
        assert measure(bomb) == (side, side)
    else:
        with pytest.raises(UnsupportedImage):
            measure(bomb)


@given(st.binary(max_size=100))
def test_a_data_uri_is_read_back(data: bytes) -> None:
    assert read_data_uri("data:image/png;base64," + b64encode(data).decode()) == data


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png,AAAA",
        "data:text/plain;base64,AAAA",
        "data:image/png;base64",
        "http://x",
        "",
        "data:,",
    ],
)
def test_what_is_no_data_uri_of_a_picture_is_refused(uri: str) -> None:
    with pytest.raises(UnsupportedImage, match="data:image/<type>;base64,<data>"):
        read_data_uri(uri)


@pytest.mark.parametrize("data", ["A", "AA=A", "AA AA", "!!!!", "é"])
def test_broken_base64_is_refused(data: str) -> None:
    with pytest.raises(UnsupportedImage, match="base64"):
        read_data_uri("data:image/png;base64," + data)


@pytest.mark.parametrize(("text", "ratio"), [("16:9", 16 / 9), ("1:1", 1.0), ("9:21", 9 / 21)])
def test_a_ratio_is_read(text: str, ratio: float) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize(
    "text", ["", "16", "16:0", "0:9", "a:b", "1:1:1", "match_input_image", "1 : 1", "-1:1"]
)
def test_what_is_no_ratio_is_none(text: str) -> None:
    assert parse_ratio(text) is None


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1), st.data())
def test_a_ratio_that_is_there_is_taken_exactly(
    sizes: list[tuple[int, int]], data: st.DataObject
) -> None:
    width, height = data.draw(st.sampled_from(sizes))
    taken = nearest_size(tuple(sizes), width / height)
    assert taken in sizes
    assert taken[0] * height == width * taken[1]


def test_nearness_is_the_same_for_wide_and_tall() -> None:
    assert nearest_size(((1, 4), (1, 1), (4, 1)), 1.9) == (1, 1)
    assert nearest_size(((1, 4), (1, 1), (4, 1)), 1 / 1.9) == (1, 1)
    assert nearest_size(((1, 4), (1, 1), (4, 1)), 1 / 2.1) == (1, 4)


@given(st.text(max_size=300), st.sampled_from(sorted(set(DRAWABLE.values()))))
@settings(deadline=None, max_examples=40)
def test_any_prompt_is_drawn_in_the_size_and_format_asked_for(prompt: str, media_type: str) -> None:
    picture = Image.open(io.BytesIO(drawn(prompt, media_type=media_type)))
    assert picture.size == (160, 96)
    assert f"image/{(picture.format or '').lower()}" == media_type


@pytest.mark.parametrize(
    "prompt", ["x" * 1_000_000, "word " * 200_000, "山" * 100_000, "", "\x00\n\u202e", "🎉"]
)
def test_hostile_prompts_are_drawn_too(prompt: str) -> None:
    assert drawn(prompt)


@given(st.text(max_size=30), st.integers(0, 2**64))
@settings(deadline=None, max_examples=20)
def test_the_same_arguments_give_the_same_bytes(prompt: str, seed: int) -> None:
    assert drawn(prompt, seed) == drawn(prompt, seed)


def test_the_bytes_are_the_same_in_another_process() -> None:
    code = (
        "from hashlib import sha256; from mockserver.images.draw import draw; print(sha256(draw(prompt='a lighthouse', "
        "caption=('owner/name', 'id'), size=(160, 96), media_type='image/png', seed=1)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sha256(drawn()).hexdigest()


def test_another_prompt_or_seed_gives_another_picture() -> None:
    assert len({drawn(), drawn("a tower"), drawn(seed=2), drawn("ж"), drawn("ш")}) == 5
