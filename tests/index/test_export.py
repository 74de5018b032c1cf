"""Exports of hits: hostile names and notes can end no record, and are no formula and no markup."""

import csv
import io
import re
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.index.export import EDL_FRAMES_PER_SECOND, format_of, to_csv, to_edl, to_html, to_m3u
from smolvideo.index.hits import Hit, SearchResult

HOSTILE = '=HYPERLINK("x")\n#EXTINF:9,\r\nM2 <script>alert(1)</script>\x1b[31m\u202e"&\u2028end'


def result(*hits: Hit, query: str = "a dog") -> SearchResult:
    return SearchResult(query, hits)


def hit(note: str = "A dog.", path: str = "/v/a b#1.mp4", **more: object) -> Hit:
    return Hit(path, 83.25, 91.5, 0.94, note, **more)  # type: ignore[arg-type]


def test_csv_has_a_row_per_hit() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(result(hit(), hit("-3.5 dogs", "b.mp4"))))))
    assert rows[0]["path"] == "/v/a b#1.mp4"
    assert (rows[0]["start_seconds"], rows[0]["end_seconds"]) == ("83.250", "91.500")
    assert rows[1]["note"] == "'-3.5 dogs"


@pytest.mark.parametrize("first", "=+-@\t\n\r\uff1d\uff0b\uff0d\uff20")
def test_no_cell_is_a_formula(first: str) -> None:
    text = f'{first}cmd|"/c calc"!A1'
    (row,) = csv.DictReader(
        io.StringIO(to_csv(result(hit(text, text, screen_text=text, subtitles=text))))
    )
    for name in ("path", "note", "screen_text", "subtitles"):
        assert row[name][0] not in "=+-@\t\n\r\uff1d\uff0b\uff0d\uff20"


def test_edl_counts_source_and_record_time() -> None:
    text = to_edl(result(hit(), hit()))
    events = re.findall(r"^(\d{3})  AX       B     C        (\S+) (\S+) (\S+) (\S+)$", text, re.M)
    assert events == [
        ("001", "00:01:23:06", "00:01:31:13", "00:00:00:00", "00:00:08:07"),
        ("002", "00:01:23:06", "00:01:31:13", "00:00:08:07", "00:00:16:14"),
    ]
    assert EDL_FRAMES_PER_SECOND == 25


def test_m3u_starts_and_stops_at_the_hit() -> None:
    lines = to_m3u(result(hit())).splitlines()
    assert lines == [
        "#EXTM3U",
        "#EXTINF:8,a b#1.mp4 0:01:23–0:01:32 A dog.",  # noqa: RUF001
        "#EXTVLCOPT:start-time=83.250",
        "#EXTVLCOPT:stop-time=91.500",
        "file:///v/a%20b%231.mp4",
    ]


def test_html_has_pictures_and_links_to_the_moment() -> None:
    picture = np.zeros((4, 8, 3), np.uint8)
    page = to_html(result(hit(screen_text="EXIT", subtitles="Hello.")), lambda _: picture)
    assert 'src="data:image/jpeg;base64,' in page
    assert 'href="file:///v/a%20b%231.mp4#t=83.250,91.500"' in page
    assert all(words in page for words in ("0:01:23", "0.94", "A dog.", "EXIT", "Hello."))
    assert "default-src 'none'" in page


@pytest.mark.parametrize("place", ["note", "path", "screen_text", "subtitles"])
def test_hostile_text_stays_in_its_place(place: str) -> None:
    found = result(hit(**{place: f"/{HOSTILE}" if place == "path" else HOSTILE}), query=HOSTILE)  # type: ignore[arg-type]
    rows = list(csv.reader(io.StringIO(to_csv(found))))
    assert [len(row) for row in rows] == [8, 8]
    assert not any(cell[:1] in "=+-@" and cell for cell in rows[1])
    assert len(to_m3u(found).splitlines()) == 5
    assert [line[:1] for line in to_m3u(found).splitlines()] == ["#", "#", "#", "#", "f"]
    assert len(to_edl(found).splitlines()) == 6
    assert to_edl(found).isascii()
    page = to_html(found)
    assert "<script" not in page
    for text in (to_csv(found), to_m3u(found), to_edl(found), page):
        assert not re.search("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e\u2028]", text)


@given(st.text(min_size=1, max_size=40))
def test_location_of_any_name_is_one_line_and_the_same_file(name: str) -> None:
    path = f"/v/{name.encode('utf-8', 'replace').decode()}"
    *_, location = to_m3u(result(hit(path=path))).splitlines()
    assert unquote(location.removeprefix("file://")) == path
    assert location.isascii()


def test_format_is_that_of_the_suffix() -> None:
    assert [format_of(name) for name in ("a.CSV", "b.m3u8", "c.htm", "d.txt", "e")] == [
        "csv",
        "m3u",
        "html",
        None,
        None,
    ]
