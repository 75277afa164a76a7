"""Text in pictures: each script in a font that has it, and a box for what no font has."""

import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from mockserver.images import text
from mockserver.images.text import Run, length, runs, showable, wrapped, write

OWN, FIRA, CJK = 0, 1, 2  # the fonts, in the order in which they are tried


@pytest.mark.parametrize(
    ("text", "font"),
    [
        ("a lighthouse at dusk, 3:2!", OWN),
        ("Straße, façade, Ærø, Łódź, İstanbul, Việt Nam", FIRA),
        ("Маяк на закате, ещё один", FIRA),
        ("Φάρος στο ηλιοβασίλεμα", FIRA),
        ("منارة عند الغروب", FIRA),
        ("מגדלור", FIRA),
        ("ประภาคาร", FIRA),
        ("夕暮れの灯台", CJK),
        ("黄昏时的灯塔。", CJK),
        ("해질녘의 등대 with a cat", CJK),
    ],
)
def test_a_prompt_is_written_in_one_font_that_has_all_of_it(text: str, font: int) -> None:
    assert runs(text) == [Run(font, text)]


def test_what_no_font_has_is_a_box_and_its_neighbours_are_letters() -> None:
    assert runs("ß\U0010ffff!") == [Run(FIRA, "ß"), Run(None, "\U0010ffff"), Run(OWN, "!")]
    assert pixels("\U0010ffff") == pixels("\U000ffffe")  # one box is like the other
    assert pixels("\U0010ffff") != pixels(" ")


def test_scripts_of_several_fonts_are_written_each_in_its_own() -> None:
    assert [run.font for run in runs("山 سلام")] == [CJK, OWN, FIRA]


@pytest.fixture
def without_cjk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    caches = (text._count, text._has_glyph, text._font)
    monkeypatch.setattr(text, "find_spec", lambda name: None)
    for each in caches:
        each.cache_clear()
    yield
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


@pytest.mark.usefixtures("without_cjk")
def test_without_the_extra_chinese_is_boxes_and_the_rest_is_as_ever() -> None:
    assert runs("山 ß") == [Run(None, "山"), Run(OWN, " "), Run(FIRA, "ß")]


def test_arabic_letters_are_joined_and_run_to_the_left() -> None:
    features = pytest.importorskip("PIL.features")
    if not features.check("raqm"):
        pytest.skip("this Pillow cannot join letters")
    assert length("\u0628\u0628\u0628", 32) < 3 * length("\u0628", 32)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc\u2028d", "a b c d"),
        ("e\u0301", "é"),
        ("\u202eabc\u200b", "abc"),
        ("❤\ufe0f", "❤"),
        ("\ud800", "\ufffd"),
        ("\ue000", "\ue000"),
    ],
)
def test_what_cannot_be_seen_is_left_out(text: str, shown: str) -> None:
    assert showable(text) == shown


def test_lines_break_at_spaces_and_words_that_are_too_wide_anywhere() -> None:
    assert wrapped("one two three", 16, length("one two", 16), 9) == ["one two", "three"]
    assert wrapped("abcdef", 16, length("abc", 16), 9) == ["abc", "def"]
    assert wrapped("夕暮れの灯台", 16, length("夕暮れ", 16), 9) == ["夕暮れ", "の灯台"]
    assert wrapped("one two three", 16, length("one two", 16), 1)[0].endswith(" …")
    assert wrapped("", 16, 100, 9) == []


@given(st.text(max_size=80).map(showable), st.integers(1, 4))
@settings(max_examples=60)
def test_no_line_is_wider_than_it_may_be(text: str, most: int) -> None:
    lines = wrapped(text, 16, 120, most)
    assert len(lines) <= most
    assert all(length(line, 16) <= 120 for line in lines)


@given(
    st.text(st.characters(categories=("L", "M", "N", "P", "S", "Co", "Cn")), max_size=20).map(
        showable
    )
)
@settings(max_examples=60)
def test_anything_can_be_written(text: str) -> None:
    assert pixels(text) == pixels(text)


@pytest.mark.parametrize("letter", ["ß", "é", "Ж", "Ω", "ش", "山", "か", "한"])
def test_no_letter_is_written_as_its_code_point_or_as_another_letter(letter: str) -> None:
    others = (
        f"\\u{ord(letter):04x}",
        unicodedata.normalize("NFKD", letter)[0] if letter == "é" else "?",
        "\U0010ffff",
    )
    assert all(pixels(letter) != pixels(other) for other in others)


def pixels(text: str) -> bytes:
    picture = Image.new("L", (320, 40))
    write(ImageDraw.Draw(picture), (4, 4), text, 20, (255,))
    return picture.tobytes()
