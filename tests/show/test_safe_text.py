"""Untrusted text is escaped for terminals, JSON, CSV and file names."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.sanitize import (
    MAX_NAME_LENGTH,
    display_name,
    display_path,
    escape_controls,
    visible_cell,
    visible_json,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("line\u2028break", r"line\u2028break"),
        ("\ud83d", r"\ud83d"),
        ("tag\U000e0041\U000e007f", r"tag\U000e0041\U000e007f"),
        ("\ufeffbom\ufff9\u206a", r"\ufeffbom\ufff9\u206a"),
        (
            "\U0001f3f4\U000e0067\U000e0062\U000e007f flag",
            "\U0001f3f4\U000e0067\U000e0062\U000e007f flag",
        ),
        ("क\u200cष co\xadop ก\u200bข", "क\u200cष co\xadop ก\u200bข"),
        ("naïve 漢字 \U0001f468\u200d\U0001f469", "naïve 漢字 \U0001f468\u200d\U0001f469"),
    ],
)
def test_escape_controls(text: str, shown: str) -> None:
    assert escape_controls(text) == shown


@given(st.text())
def test_escape_controls_leaves_no_active_sequence(text: str) -> None:
    shown = escape_controls(text, allowed="\n")
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown.replace("\n", ""))
    shown.encode("utf-8")  # no lone surrogate is left
    assert escape_controls(shown, allowed="\n") == shown


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_escaped_json_round_trips_without_active_sequences(content: object) -> None:
    for indent in (None, 2):
        text = visible_json(json.dumps(content, ensure_ascii=False, indent=indent))
        assert json.loads(text) == content
        assert escape_controls(text, allowed="\n") == text
        text.encode("utf-8")


def test_json_escapes_astral_characters_as_surrogate_pairs() -> None:
    assert visible_json('"\U000e0041 \x9b \u2028 \U0001f600"') == (
        r'"\udb40\udc41 \u009b \u2028 ' + '\U0001f600"'
    )


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1", "'=1"),
        ("\uff1d1", "'\uff1d1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-", "'-"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"),
        ("-1.5e-3 +2,5", "-1.5e-3 +2,5"),
        ("\ufeff=1", r"\ufeff=1"),
        ("a\x1b[2J\r\nb", r"a\x1b[2J\x0d" + "\nb"),
        ("a=1", "a=1"),
        ("", ""),
    ],
)
def test_csv_cells_are_escaped(text: str, cell: str) -> None:
    assert visible_cell(text) == cell


@given(st.text(st.characters()))
def test_display_names_are_safe_to_print(text: str) -> None:
    name = display_name(text)
    assert name.encode()
    assert 0 < len(name) <= MAX_NAME_LENGTH
    assert len(name.splitlines()) == 1
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in name)


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=MAX_NAME_LENGTH))
def test_ordinary_names_are_unchanged(text: str) -> None:
    assert display_name(text) == text


def test_joined_emoji_are_kept_and_long_names_keep_their_suffix() -> None:
    assert display_name("👩\u200d🚀.mp4") == "👩\u200d🚀.mp4"
    assert display_name("x" * 500 + ".mp4").endswith("x.mp4")


def test_display_path_stays_between_its_backticks() -> None:
    assert display_path("a`b\x1b[2J\n.mp4") == "`a'b .mp4`"
