"""Subtitle files: parsing, damage, and the cues near sampled frames."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.errors import SourceError
from smolvideo.frames import SubtitleEvent
from smolvideo.subtitles import (
    Cue,
    cues_near,
    cues_of_track,
    cues_within,
    format_cues,
    parse_subtitles,
    read_subtitles,
)

SRT = """1
00:00:01,000 --> 00:00:02,500
Hello there,
<i>General</i> Kenobi.

2
00:01:15,250 --> 00:01:17,000 X1:40 X2:600 Y1:20 Y2:50
{\\an8}<font color="#ff0000">Café &amp; tea</font>
"""

VTT = """WEBVTT - with a title

STYLE
::cue { color: red }

NOTE a comment
over two lines

first
00:01.000 --> 00:02.000 align:start position:0%
<v Mary Ann>Where <c.yellow>is</c> it?</v>

00:00:03.000 --> 00:00:04.000
two<00:00:03.500> words&nbsp;more
"""

ASS = """[Script Info]
Title: x

[V4+ Styles]
Format: Name, Fontname

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:05.00,0:00:06.50,Default,,0,0,0,,Later, {\\i1}much{\\i0} later\\Nindeed
Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,First\\hline
Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\p1}m 0 0 l 100 0 100 100{\\p0}
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not shown
"""


def test_subrip_is_parsed():
    assert parse_subtitles(SRT) == [
        Cue(1.0, 2.5, "Hello there, General Kenobi."),
        Cue(75.25, 77.0, "Café & tea"),
    ]


def test_webvtt_is_parsed():
    assert parse_subtitles(VTT) == [
        Cue(1.0, 2.0, "Mary Ann: Where is it?"),
        Cue(3.0, 4.0, "two words more"),
    ]


def test_substation_is_parsed():
    assert parse_subtitles(ASS) == [
        Cue(1.0, 2.0, "First line"),
        Cue(5.0, 6.5, "Later, much later indeed"),
    ]


def test_substation_with_another_column_order():
    text = "[Events]\nFormat: End, Start, Text\nDialogue: 0:00:02.00,0:00:01.00,a, b\n"
    assert parse_subtitles(text) == [Cue(1.0, 2.0, "a, b")]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]
)
def test_encodings_and_line_endings_are_detected(tmp_path, encoding, ending):
    path = tmp_path / "a.srt"
    path.write_bytes(SRT.replace("\n", ending).encode(encoding))
    assert read_subtitles(path) == parse_subtitles(SRT)


def test_windows_quotes_and_undefined_bytes(tmp_path):
    path = tmp_path / "a.srt"
    path.write_bytes(b"00:01 --> 00:02\n\x93so\x94\n")
    assert read_subtitles(path)[0].text == "“so”"
    path.write_bytes(b"00:01 --> 00:02\n\x81\xe9t\xe9\n")
    assert read_subtitles(path)[0].text == "été"


@pytest.mark.parametrize(
    "broken",
    [
        "00:00:05,000 --> 00:00:04,000\nbackwards\n",
        "00:00:05,000 --> 00:00:05,000\nno time at all\n",
        "00:00:05,000 -->\nno end\n",
        "a --> b\nno times\n",
        "00:00:05,000 --> 00:00:06,000\n\n",
        "00:00:05,000 --> 00:00:06,000\n<i></i>\n",
        "-1:00:05,000 --> 00:00:06,000\nnegative\n",
    ],
)
def test_malformed_cues_are_skipped(broken):
    text = f"1\n{broken}\n2\n00:00:10,000 --> 00:00:11,000\nstays\n"
    assert parse_subtitles(text) == [Cue(10.0, 11.0, "stays")]


def test_missing_blank_lines_and_short_times():
    text = "1\n0:0:1.5 --> 0:0:2\none\n2\n00:00:03,000 -> 00:00:04,000\ntwo\n3\n1:00 --> 1:01\n42"
    assert parse_subtitles(text) == [
        Cue(1.5, 2.0, "one"),
        Cue(3.0, 4.0, "two"),
        Cue(60.0, 61.0, "42"),
    ]


def test_less_than_is_kept_and_control_characters_are_removed():
    text = "00:01.000 --> 00:02.000\n1 < 2 and 3 > 2 \x1b\u202e\x00ok\n"
    assert parse_subtitles(text)[0].text == "1 < 2 and 3 > 2 ok"


def test_rollup_captions_are_deduplicated():
    text = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\n \nso this<00:00:01.000><c> is</c>\n\n"
        "00:02.000 --> 00:02.010\nso this is\n \n\n"
        "00:02.010 --> 00:04.000\nso this is\nthe second line\n\n"
        "00:04.000 --> 00:04.010\nthe second line\n\n"
        "00:04.010 --> 00:06.000\nthe second line\nand the third\n\n"
        "00:20.000 --> 00:21.000\nand the third\n"
    )
    assert [(cue.start_seconds, cue.text) for cue in parse_subtitles(text)] == [
        (0.0, "so this is"),
        (2.01, "the second line"),
        (4.01, "and the third"),
        (20.0, "and the third"),  # repeated later
    ]


def test_unreadable_files_are_errors(tmp_path):
    with pytest.raises(SourceError, match="cannot read the subtitles"):
        read_subtitles(tmp_path / "none.srt")
    with pytest.raises(SourceError, match="cannot read the subtitles"):
        read_subtitles(Path("a\0b.srt"))
    path = tmp_path / "film.srt"
    path.write_bytes(b"\0\0\0\x1cftypisom" * 100)
    with pytest.raises(SourceError, match="no subtitles in"):
        read_subtitles(path)
    with path.open("wb") as file:
        file.truncate(32 * 2**20 + 1)
    with pytest.raises(SourceError, match="too large for subtitles: they may have 32 MiB"):
        read_subtitles(path)


@given(st.text())
def test_any_text_is_parsed_without_error(text):
    for before in ("", "[Events]\nDialogue: ", "1\n00:01 --> 00:02\n"):
        for cue in parse_subtitles(before + text):
            assert cue.start_seconds < cue.end_seconds
            assert cue.text == " ".join(cue.text.split()) != ""


class TestNear:
    CUES = (Cue(0, 2, "a"), Cue(5, 6, "b"), Cue(10, 20, "c"))

    @pytest.mark.parametrize(
        ("times", "within", "expected"),
        [
            ([1.0], 0.0, "a"),
            ([2.0, 5.0], 0.0, "ab"),
            ([3.5], 1.0, ""),
            ([3.5], 1.5, "ab"),
            ([15.0], 0.0, "c"),
            ([30.0, 1.0], 1.0, "a"),
            ([], 100.0, ""),
        ],
    )
    def test_cues_on_screen_at_sampled_times(self, times, within, expected):
        near = cues_near(self.CUES, times, within_seconds=within)
        assert "".join(cue.text for cue in near) == expected

    @given(
        st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 10)), max_size=20),
        st.lists(st.floats(0, 120), max_size=20),
        st.floats(0, 5),
    )
    def test_cues_near_equals_its_definition(self, spans, times, within):
        cues = [Cue(start, start + length, "x") for start, length in spans]
        expected = [
            cue
            for cue in cues
            if any(cue.start_seconds - within <= t <= cue.end_seconds + within for t in times)
        ]
        assert cues_near(cues, times, within_seconds=within) == expected

    def test_cues_are_formatted_one_per_line(self):
        cues = [Cue(75.9, 77, "Where is it?"), Cue(3600, 3601, "There.")]
        assert format_cues(cues) == "01:15 Where is it?\n60:00 There."
        assert format_cues([]) == ""


class TestTrack:
    """Text tracks inside video files."""

    def test_markup_and_event_fields_are_removed(self):
        texts = [
            SubtitleEvent(3, 4, "1,0,Default,,0,0,0,,Hello, {\\i1}you{\\i0}\\Nthere", "ass"),
            SubtitleEvent(1, 2, "<i>First</i> &amp; foremost", "subrip"),
            SubtitleEvent(5, 6, "2,0,Default,,0,0,0,,{\\p1}m 0 0 l 9 9{\\p0}", "ass"),
            SubtitleEvent(7, 8, "\x1b[31m", "mov_text"),
        ]
        assert [(cue.start_seconds, cue.text) for cue in cues_of_track(texts)] == [
            (1, "First & foremost"),
            (3, "Hello, you there"),
            (7, "[31m"),
        ]

    @given(st.lists(st.text("abc ", min_size=1, max_size=40), max_size=30), st.integers(0, 300))
    def test_cues_are_limited_to_a_number_of_characters(self, texts, most):
        cues = [Cue(place, place + 1, text) for place, text in enumerate(texts)]
        kept = cues_within(cues, most)
        assert len(format_cues(kept)) <= most
        assert [cue for cue in cues if cue in kept] == kept
        assert len(kept) == len(cues) or len(format_cues(cues)) > most
