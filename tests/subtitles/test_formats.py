"""Unusual subtitle files of every format, compared with what players show.

Where FFmpeg reads the format, the values are its output, with three exceptions: digits after the
mark are a fraction of a second (FFmpeg takes `,5` for 5 ms), hours may be missing, and a cue that
ends before it begins is left out with a notice.
"""

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.errors import SourceError
from smolvideo.frames import SubtitleEvent
from smolvideo.subtitles import Cue, cues_of_track, parse_subtitles, read_subtitles
from smolvideo.subtitles.load import FORMATS


def texts(content: str, **given: float) -> list[str]:
    return [cue.text for cue in parse_subtitles(content, **given)]


def spans(content: str, **given: float) -> list[tuple[float, float]]:
    return [(cue.start_seconds, cue.end_seconds) for cue in parse_subtitles(content, **given)]


ONE, TWO = "00:00:00,000 --> 00:00:02,000", "00:00:03,000 --> 00:00:05,000"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (f"1\n{ONE}\n\nBelow.\n\n2\n{TWO}\n\nToo.\n", ["Below.", "Too."]),
        (f"1\n{ONE}\nAnna,\n\nBoris.\n\n2\n{TWO}\nEnd.\n", ["Anna, Boris.", "End."]),
        (f"1\n{ONE}\nAnna,\n\n\nBoris.\n\n\n\n2\n\n{TWO}\nEnd.\n", ["Anna, Boris.", "End."]),
        (f"1\n{ONE}\nHow many?\n\n42\n\n2\n{TWO}\nEnd.\n", ["How many? 42", "End."]),
        (f"1\n{ONE}\n42\n\n2\n{TWO}\n1984\n", ["42", "1984"]),
        (f"{ONE}\n42\n{TWO}\ntwo\n", ["42", "two"]),
        (f"1\n{ONE}\none\n2\n{TWO}\ntwo\n3\n00:07 --> 00:08\n3\n", ["one", "two", "3"]),
        (f"1\n{ONE}\n\n2\n{TWO}\ntwo\n", ["two"]),
        (f"1\n{ONE}\n2\n{TWO}\ntwo\n", ["two"]),
        (f"1\n{ONE}\nA --> B\n00:30 --> yes\n\n2\n{TWO}\nC\n", ["A --> B 00:30 --> yes", "C"]),
        (f"1\r\r\n{ONE}\r\r\nA\r\r\nB\r\r\n\r\r\n2\r\r\n{TWO}\r\r\nC\r\r\n", ["A B", "C"]),
        (f"1\r\n{ONE}\nA\r\r2\r{TWO}\rB\r", ["A", "B"]),
        (f"\ufeff1\n{ONE}\nA\n\n\ufeff2\n{TWO}\nB\n", ["A", "B"]),
        (f"\u202b1\u202c\n\u202b{ONE}\u202c\nA\n\n\u200f2\n{TWO}\nB\n", ["A", "B"]),
        (f"1\n{ONE}\nHe\0re\n", ["Here"]),
        (f"1\n{ONE}\nOne\\Ntwo\\hthree\\nfour\n", ["One two three\\nfour"]),
        (f"1\n{ONE}\n\\NC:\\New and \\\\Nas\n", ["C:\\New and \\\\Nas"]),
        (f"2\n{TWO}\nlater\n\n1\n{ONE}\nfirst\n", ["first", "later"]),
        (f"1\n{ONE}", []),
        (f"1\n{ONE}\n<3 x < y > z <b>bold</b><br>next<br/>1<>\n", ["<3 x < y > z bold next 1<>"]),
        (f"1\n{ONE}\n{{\\an8}}{{b}}x{{/b}} {{Y:i}}it{{C:$0000ff}}s\n", ["{b}x{/b} its"]),
        (f"1\n{ONE}\nمی\u200cخو 👨\u200d👩\n", ["می\u200cخو 👨\u200d👩"]),
        (f"1\n{ONE}\n&#{'9' * 5000}; &#65;&amp;copy R&D\n", [f"&#{'9' * 5000}; A&copy R&D"]),
    ],
)  # fmt: skip
def test_subrip_markup_is_removed(content: str, expected: list[str]) -> None:
    assert texts(content) == expected


@pytest.mark.parametrize(
    ("timing", "span"),
    [
        ("00:00:01,1000 --> 00:00:03,1000", (2.0, 4.0)),
        ("00:00:59,1000 --> 00:59:59.1000", (60.0, 3600.0)),
        ("00:00:01,1234 --> 00:00:03,0999", (2.234, 3.999)),
        ("00:00:01.500000 --> 00:00:03.25", (1.5, 3.25)),
        ("1:2:3,4 --> 1:2:5,06", (3723.4, 3725.06)),
        ("00:00:01.000 --> 00:00:02.000", (1.0, 2.0)),
        ("00:01,000 --> 00:02,000", (1.0, 2.0)),
        ("75:00.5 --> 120:00.000", (4500.5, 7200.0)),
        ("00:00:01-->00:00:02", (1.0, 2.0)),
        ("00:00:01,000 --> 00:00:02,000  X1:117 X2:619 Y1:042 Y2:428", (1.0, 2.0)),
        ("00:00:59,500 --> 00:00:60,000", (59.5, 60.0)),
        ("00:61:00,000 --> 00:62:75,000", (3660.0, 3795.0)),
        ("100:00:00,000 --> 100:00:01,000", (360_000.0, 360_001.0)),
        ("00:00: 1,000 --> 00:00: 2,000", (1.0, 2.0)),
        (" 00 : 00 : 01 , 000 --> 00 : 00 : 02 , 000 ", (1.0, 2.0)),
        ("00:00:01:500 --> 00:00:02:500", (1.5, 2.5)),
        ("00:00:01,000 -> 00:00:02,000", (1.0, 2.0)),
        ("00:00:01,000 —> 00:00:02,000", (1.0, 2.0)),
        ("00:00:01,000 → 00:00:02,000", (1.0, 2.0)),
        ("00:00:01,000 --&gt; 00:00:02,000", (1.0, 2.0)),
        ("\u0660:\u0660:\u0661,\u0665 --> 0:0:\u0662", (1.5, 2.0)),
    ],
)  # fmt: skip
def test_unusual_time_formats(timing: str, span: tuple[float, float]) -> None:
    assert spans(f"1\n{timing}\nsaid\n") == [span]


@pytest.mark.parametrize(
    "broken",
    [
        "00:00:05,000 --> 00:00:04,000",
        "00:00:05,000 --> 00:00:05,000",
        "-00:00:05,000 --> 00:00:06,000",
        "00:00:-5,000 --> 00:00:06,000",
        "00:00:05,000 -->",
        "00:00:05,000 --> 1:2:3:4:5",
        "soon --> later",
    ],
)
def test_cues_without_valid_times_are_skipped_with_a_notice(tmp_path, broken: str) -> None:
    path, heard = tmp_path / "film.srt", []
    path.write_text(f"1\n{ONE}\nbefore\n\n2\n{broken}\nnot this\n\n3\n{TWO}\nafter\n")
    cues = read_subtitles(path, on_notice=heard.append)
    assert [cue.text for cue in cues] == ["before", "after"]
    assert heard == [f"1 cue is left out of `{path}`: no valid times"]


WEBVTT = """WEBVTT Kind: captions; Language: en
X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000

STYLE
::cue(.x) { color: red }

REGION
id:fred

NOTE over
two lines --> and an arrow

NOTE
00:00.500 --> 00:00.900
no longer said

intro-1
00:01.000 --> 00:02.000 line:0 position:20%,line-left align:start
<v.loud Mary Ann>Hi <c.yellow.bg_blue>there</c> &amp; <00:01.500>you &lt;b&gt;&nbsp;x&lrm;</v>
<ruby>漢字<rt>かんじ</rt></ruby>

00:03.000 --> 00:04.000
a NOTE within
NOTE is text here

100:00:05.000 --> 100:00:06.000
<lang de>spät</lang>

00:07.000 --> 00:08.000

no cue at all
"""


def test_webvtt_blocks_and_markup() -> None:
    assert parse_subtitles(WEBVTT) == [
        Cue(1.0, 2.0, "Mary Ann: Hi there & you <b> x 漢字 (かんじ)"),
        Cue(3.0, 4.0, "a NOTE within NOTE is text here"),
        Cue(360_005.0, 360_006.0, "spät"),
    ]


def test_webvtt_without_blank_lines() -> None:
    content = "WEBVTT\n00:01,000 --> 00:02,000\none\n2\n00:03.000 --> 00:04.000\ntwo"
    assert texts(content) == ["one", "two"]


def test_three_line_rollup_captions_are_deduplicated() -> None:
    rows = ["one", "two", "three", "four", "five"]
    content = "WEBVTT\n\n" + "\n\n".join(
        f"00:0{last}.000 --> 00:0{last + 1}.000\n" + "\n".join(rows[max(0, last - 2) : last + 1])
        for last in range(5)
    )
    assert texts(content) == rows


SUBSTATION = r"""[Script Info]
; Dialogue: 0,0:00:09.00,0:00:10.00,Default,,0,0,0,,a remark
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not shown
Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,Hi {\i1}you{\i0}, {a {note}the\Nre\his\nmore {open
Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,{\p1}m 0 0 l 100 0{\p0}after it
Dialogue: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,{\pos(1,2)\p2}m 0 0 l 100 0
Dialogue: 0,0:00:07.00,0:00:08.00,Default,,0,0,0,,{\k20}ka{\k30\pbo3}ra{\k9}oke
Dialogue: 0,0:00:09.00,0:00:08.00,Default,,0,0,0,,backwards
[Fonts]
Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,not an event
"""


def test_substation_comments_overrides_and_drawings_are_removed() -> None:
    assert parse_subtitles(SUBSTATION) == [
        Cue(1.0, 2.0, "Hi you, the re is more {open"),
        Cue(3.0, 4.0, "after it"),
        Cue(7.0, 8.0, "karaoke"),
    ]
    events = [line.split(",", 9) for line in SUBSTATION.splitlines() if line.startswith("Dial")]
    track = [
        SubtitleEvent(n, n + 1, "0,0,D,,0,0,0,," + event[9], "ass")
        for n, event in enumerate(events)
    ]
    assert [cue.text for cue in cues_of_track(track)][:3] == [
        "Hi you, the re is more {open", "after it", "karaoke",
    ]  # fmt: skip


def test_microdvd_counts_frames(tmp_path) -> None:
    content = "{1}{1}25.000\n{25}{50}Hello|{y:i}world\n{75}{}{C:$0000ff}/no end\n{9}{8}back\n"
    assert parse_subtitles(content) == [Cue(1.0, 2.0, "Hello world"), Cue(3.0, 6.0, "/no end")]
    assert spans("{25}{50}a\n", frame_rate=50.0) == [(0.5, 1.0)]
    path, heard = tmp_path / "film.sub", []
    path.write_text("{25}{50}a\n")
    with pytest.raises(SourceError, match="frame rate is not known"):
        read_subtitles(path)
    assert read_subtitles(path, frame_rate=lambda: 12.5, on_notice=heard.append) == [Cue(2, 4, "a")]
    assert heard == [f"`{path}` counts frames: read at the video's 12.5 a second"]


@pytest.mark.parametrize(
    "content",
    [
        "0:00:01.000,0:00:02.500\nHello,\nyou\n\n0:00:04.000,0:00:06.000\nBye\n",
        "[10][25]Hello,|/you\n[40][60]Bye\n",
        "[10] [25] Hello, | you\n[9][8]back\n[40][60]Bye\n",
    ],
)
def test_variants_of_subrip_and_microdvd(content: str) -> None:
    assert parse_subtitles(content) == [Cue(1.0, 2.5, "Hello, you"), Cue(4.0, 6.0, "Bye")]


@pytest.mark.parametrize(
    "content", ["[00:01.00]Hello there\n[00:04.50]Bye\n", "00:00:01:Hello|there\n00:00:05:Bye\n"]
)
def test_unsupported_formats_error_lists_the_supported_ones(tmp_path: Path, content: str) -> None:
    """Lyrics (.lrc) and TMPlayer have start times only, no end times."""
    path = tmp_path / "film.lrc"
    path.write_text(content)
    with pytest.raises(SourceError, match="no subtitles in") as raised:
        read_subtitles(path)
    assert raised.value.hint == FORMATS


def test_sami_shows_one_language_until_the_next_text() -> None:
    content = """<SAMI><HEAD><TITLE>x</TITLE><STYLE TYPE="text/css"><!--
    P { color: white } .KRCC { Name: Korean; lang: ko-KR; } .E1 { Name: English; lang: en-US; }
    --></STYLE></HEAD><BODY>
    <SYNC Start=1000><P Class=KRCC>안녕<P Class=E1>Hello<br>there
    <SYNC Start=3000><P Class=KRCC>&nbsp;<P Class=E1>&nbsp;
    <SYNC Start='5000'><P Class='E1'><font color=red>Again</font> &amp; again
    </BODY></SAMI>"""
    assert parse_subtitles(content) == [Cue(1, 3, "Hello there"), Cue(5, 8, "Again & again")]
    assert texts(content.replace("E1", "KR2").replace("en-US", "ko-KR")) == ["안녕"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '<?xml version="1.0" encoding="utf-16"?><tt xmlns="http://www.w3.org/ns/ttml"><head>'
            "<metadata><desc>unseen</desc></metadata></head><body><div>"
            '<p begin="00:00:01.000" end="00:00:02.000">Hello<br />there</p>\n'
            '<p begin="3s" dur="1.5s"><span>Two</span>\n  spans &amp; a tag &lt;i&gt;</p>'
            "</div></body></tt>",
            [Cue(1, 2, "Hello there"), Cue(3, 4.5, "Two spans & a tag")],
        ),
        (
            '<tt:tt xmlns:tt="http://www.w3.org/2006/10/ttaf1" tickRate="10" ttp:frameRate="25">'
            '<tt:body begin="1s"><tt:p begin="00:00:01:05" end="30t">x</tt:p></tt:body></tt:tt>',
            [Cue(2.2, 4, "x")],
        ),
        ('<timedtext format="3"><body><p t="500" d="1500">a<s t="9"> b</s></p></body></timedtext>',
         [Cue(0.5, 2, "a b")]),
        ('<transcript><text start="0.5" dur="1.5">it&amp;#39;s</text></transcript>',
         [Cue(0.5, 2, "it's")]),
        ('<tt><body><p begin="1s" end="2s">a</p><p begin="3s" end="4s">brok', [Cue(1, 2, "a")]),
        ('<tt><body><p begin="2s" end="1s">a</p><p begin="soon">b</p></body></tt>', []),
    ],
)  # fmt: skip
def test_ttml_and_other_xml(content: str, expected: list[Cue]) -> None:
    assert parse_subtitles(content) == expected


def test_xml_entities_are_refused(tmp_path) -> None:
    path = tmp_path / "film.ttml"
    path.write_text('<!DOCTYPE tt [<!ENTITY a "aaa">]><tt><p begin="1s" end="2s">&a;</p></tt>')
    with pytest.raises(SourceError, match="declare XML entities"):
        read_subtitles(path)


def test_json3_is_parsed() -> None:
    content = (
        '{"wireMagic": "pb3", "events": [{"tStartMs": 0, "dDurationMs": 9000, "id": 1},'
        '{"tStartMs": 500, "dDurationMs": 1500, "segs": [{"utf8": "so"}, {"utf8": " it"}]},'
        '{"tStartMs": 1990, "aAppend": 1, "segs": [{"utf8": "\\n"}]}, 7, {"segs": 3},'
        '{"tStartMs": -4, "dDurationMs": 1, "segs": [{"utf8": "x"}]},'
        '{"tStartMs": 2000, "dDurationMs": 1000, "segs": [{"utf8": "goes"}, {"utf8": null}]}]}'
    )
    assert parse_subtitles(content) == [Cue(0.5, 2, "so it"), Cue(2, 3, "goes")]
    assert parse_subtitles('{"events": ' + "[" * 100_000) == []
    assert parse_subtitles('{"events": [{"segs": [{"utf8": "a"}], "tStartMs": 1e999}]}') == []


SUBRIP = f"1\n{ONE}\n"
HOSTILE = [
    *((SUBRIP, piece) for piece in ["<v ", "<", "<1:", "{", "{\\", "&", "&#1", "-->", "\n", "\r"]),
    *(("1\n00:00:01", piece) for piece in ["1", "1:", " ", " --> "]),
    *(("[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,D,,0,0,0,,", piece) for piece in ["{", "\\p1"]),
    ("WEBVTT\n\nNOTE ", "NOTE\n\n"),
    ("{1}{1}25\n{1}{50}", "{1}"),
    ("<SAMI>\n<SYNC Start=1><P Class=KR>", "<sync "),
    ("<SAMI>\n", ".a { lang"),
    ("<tt><body>", "<p>"),
]


@pytest.mark.parametrize(("beginning", "piece"), HOSTILE)
def test_parsing_is_linear_in_the_file_size(beginning: str, piece: str) -> None:
    """A quadratic expression takes ten times the CPU seconds of this bound, a linear one a
    tenth.
    """
    content = beginning + piece * (120_000 // len(piece))
    begun = time.process_time()
    parse_subtitles(content)
    assert time.process_time() - begun < 2.0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 359_999_999),
            st.integers(1, 10_000),
            st.text("abcé漢 -.,?!", min_size=1).filter(str.strip),
        ),
        max_size=15,
    ),
    st.sampled_from(["srt", "vtt", "ass"]),
)
def test_written_cues_are_parsed_back(cues: list[tuple[int, int, str]], kind: str) -> None:
    def clock(ms: int) -> str:
        seconds, ms = divmod(ms, 1000)
        mark = "," if kind == "srt" else "."
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{ms:03}"

    written = sorted(
        # So far apart that no text counts as a roll-up of the one before.
        (
            start + 20_000 * place,
            start + length + 20_000 * place,
            f"x{place} " + " ".join(text.split()),
        )
        for place, (start, length, text) in enumerate(sorted(cues))
    )
    cue = {
        "srt": "7\n{} --> {}\n{}\n\n",
        "vtt": "{} --> {} line:0\n{}\n\n",
        "ass": "Dialogue: 0,{},{},D,,0,0,0,,{}\n",
    }[kind]
    content = {"srt": "", "vtt": "WEBVTT\n\n", "ass": "[Events]\n"}[kind]
    content += "".join(cue.format(clock(start), clock(end), text) for start, end, text in written)
    read = [(c.start_seconds, c.end_seconds, c.text) for c in parse_subtitles(content)]
    assert read == [(a / 1000, b / 1000, text) for a, b, text in written]
