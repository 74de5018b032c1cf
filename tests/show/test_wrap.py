"""Word wrap of a streamed answer: breaks between words, and no text is lost."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from smolvideo.show.answer import WordWrap

TEXT = st.text(st.sampled_from("ab .é漢\n"), max_size=80)


def wrapped(pieces: list[str], width: int) -> str:
    lines = WordWrap(width)
    return "".join(map(lines.wrap, pieces)) + lines.flush()


@given(text=TEXT, width=st.integers(2, 30), cuts=st.lists(st.integers(0, 80), max_size=5))
def test_wrapping_is_independent_of_the_pieces(text: str, width: int, cuts: list[int]) -> None:
    places = sorted([0, *cuts, len(text)])
    pieces = [text[start:end] for start, end in pairwise(places)]
    assert wrapped(pieces, width) == wrapped([text], width)


@given(text=TEXT, width=st.integers(2, 30))
def test_every_word_is_kept_and_lines_fit_the_width(text: str, width: int) -> None:
    shown = wrapped([text], width)
    assert "".join(shown.split()) == "".join(text.split())
    for line in shown.split("\n"):
        assert cell_len(line.strip()) <= width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a red circle moves", "a red\ncircle\nmoves"),
        ("a red\n\ncircle", "a red\n\ncircle"),
        ("12345678 9", "12345678\n9"),
        ("    a", "    a"),
        ("unbelievable", "unbeliev\nable"),
    ],
)
def test_wrapping_at_eight_columns(text: str, shown: str) -> None:
    assert wrapped([text], 8) == shown


def test_partial_word_is_held_back() -> None:
    lines = WordWrap(20)
    assert lines.wrap("A bro") == "A"
    assert lines.wrap("wn dog") == " brown"
    assert lines.flush() == " dog"
