"""Output files: formats that programs parse, portable file names, escaped text."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path, PurePath

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import ROOT

from smolvideo.file_names import is_output_of
from smolvideo.records import SourceRecord
from smolvideo.subtitles import find_sidecar, parse_subtitles
from smolvideo.summaries.formats import (
    TEXT_FORMATTERS,
    to_ffmetadata,
    to_html,
    to_json,
    to_markdown,
    to_site_chapters,
    to_srt,
    to_text,
    to_vtt,
)
from smolvideo.summaries.outputs import SUFFIXES_BY_FORMAT, OutputNames, fit_name
from smolvideo.summaries.record_log import Chapter, Note, SummaryRecord
from smolvideo.summaries.worklist import WorkItem

HOSTILE = "<b>x</b> & 00:00:01,000 --> 00:00:02,000\n\nNOTE\n# = ; [CHAPTER]\n\x1b[31m`*_\u202e"


def record(*chapters: Chapter, text: str = "All of it.", **fields: object) -> SummaryRecord:
    made = SummaryRecord(
        path="/videos/party.mp4",
        source=SourceRecord("party.mp4", "party.mp4", "video"),
        style="brief",
        text=text,
        duration_seconds=chapters[-1].end_seconds if chapters else 10.0,
        chapters=chapters,
        model="nano",
        frames=8,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


THREE = (
    Chapter(0.0, 61.5, "A dog", "A dog runs."),
    Chapter(61.5, 65.0, "A short cat", "A cat."),
    Chapter(65.0, 3725.25, "The sea = blue; #1", "The sea."),
)


def test_text_lists_the_chapters() -> None:
    assert to_text(record(*THREE)).splitlines() == [
        "All of it.",
        "",
        "0:00 A dog",
        "1:01 A short cat",
        "1:05 The sea = blue; #1",
    ]
    assert to_text(record(THREE[0])) == "All of it.\n"


def test_written_subtitles_are_parsed_back() -> None:
    for text in (to_srt(record(*THREE)), to_vtt(record(*THREE))):
        cues = parse_subtitles(text)
        assert [(cue.start_seconds, cue.end_seconds, cue.text) for cue in cues] == [
            (0.0, 61.5, "A dog runs."),
            (61.5, 65.0, "A cat."),
            (65.0, 3725.25, "The sea."),
        ]
    assert to_vtt(record(*THREE)).startswith("WEBVTT\n\n00:00:00.000 --> 00:01:01.500\n")


def test_subtitles_use_notes_rather_than_chapters() -> None:
    noted = record(THREE[0], notes=(Note(0, 30, "one"), Note(30, 61.5, "two")))
    assert [cue.text for cue in parse_subtitles(to_srt(noted))] == ["one", "two"]


@given(st.text(max_size=80))
def test_hostile_text_stays_in_its_cue(text: str) -> None:
    made = record(Chapter(0, 5, "t", text), Chapter(5, 9, "u", "last"))
    for form in (to_srt, to_vtt):
        assert form(made).count(" --> ") == 2
        blocks = [block for block in re.split(r"\n\n+", form(made).strip()) if "-->" in block]
        assert len(blocks) == 2


def test_ffmetadata_chapters_are_parsed_by_ffmpeg(tmp_path: Path) -> None:
    file = tmp_path / "x.ffmetadata"
    file.write_text(to_ffmetadata(record(*THREE, text=HOSTILE)), encoding="utf-8")
    with av.open(str(file), format="ffmetadata") as container:
        found = container.chapters()
        assert container.metadata["title"] == "party.mp4"
    assert [(c["start"], c["end"], c["metadata"]["title"]) for c in found] == [
        (0, 61500, "A dog"),
        (61500, 65000, "A short cat"),
        (65000, 3725250, "The sea = blue; #1"),
    ]


def test_site_chapters_merge_short_chapters() -> None:
    lines = to_site_chapters(record(*THREE)).splitlines()
    # Four seconds are below the minimum length: merged into the chapter before.
    assert lines == ["0:00 A dog", "1:05 The sea = blue; #1"]
    odd = (Chapter(0.4, 20, "<b>\nbold", "x"), Chapter(20, 40, "y", "y"), Chapter(40, 45, "z", "z"))
    assert to_site_chapters(record(*odd)).splitlines() == ["0:00 ‹b› bold", "0:20 y"]  # noqa: RUF001


def test_json_is_the_full_record() -> None:
    made = record(*THREE, text=HOSTILE)
    assert SummaryRecord.from_json(to_json(made)) == made
    assert json.loads(to_json(made))["chapters"][1]["title"] == "A short cat"


def test_markdown_escapes_hostile_text() -> None:
    page = to_markdown(record(*THREE, text=HOSTILE))
    assert "<b>" not in page
    assert "\x1b" not in page
    assert page.startswith("# party.mp4\n\n")
    assert "### 1:01 A short cat" in page
    bullets = to_markdown(record(text="- one\n- two\n1. three\n# four"))
    assert "- one\n- two\n1\\. three\n\\# four" in bullets


def test_no_format_contains_escape_sequences() -> None:
    made = record(Chapter(0, 20, HOSTILE, HOSTILE), Chapter(20, 40, "b", "b"), text=HOSTILE)
    for ending, form in TEXT_FORMATTERS.items():
        assert "\x1b" not in form(made), ending
        assert "\u202e" not in form(made) or ending == ".summary.json"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attributes)
        if tag == "a":
            self.links.append(named.get("href") or "")
        if tag == "img":
            self.images.append(named.get("src") or "")
        assert not any(name.startswith("on") for name in named)


def test_html_page_is_one_file_with_images_and_times() -> None:
    video = ROOT / "samples" / "square_then_circle.mp4"
    chapters = (Chapter(0, 4.5, HOSTILE, HOSTILE), Chapter(4.5, 10, "Then", "A circle."))
    made = record(*chapters, text=HOSTILE, path=str(video))
    text = to_html(made, ROOT / "notes" / "x.summary.html")
    page = _Page()
    page.feed(text)
    assert "b" not in page.tags
    assert page.tags.count("script") == 1
    assert len(page.images) >= 10
    assert all(image.startswith("data:image/jpeg;base64,") for image in page.images)
    assert "../samples/square_then_circle.mp4#t=4.500" in page.links
    assert "prefers-color-scheme: dark" in text


def test_html_page_of_a_missing_video_has_no_images() -> None:
    page = _Page()
    page.feed(to_html(record(*THREE), Path("/videos/party.summary.html")))
    assert page.images == []
    assert "party.mp4#t=61.500" in page.links


# ---------------------------------------------------------------------- names


@given(st.text(max_size=300))
def test_any_name_becomes_a_valid_file_name(name: str) -> None:
    fit = fit_name(name)
    assert fit
    assert len(fit.encode()) <= 180
    assert not set(fit) & set('<>:"/\\|?*\0\n')
    assert fit.strip(" .") == fit or fit == "_"
    assert fit_name(fit) == fit


@pytest.mark.parametrize("name", ["..", ".", "", "con", "NUL.txt", "a/b", "\udcff"])
def test_reserved_names_are_changed(name: str) -> None:
    assert fit_name(name).upper() not in ("CON", "NUL.TXT", ".", "..")
    assert "/" not in fit_name(name)


def names_in(folder: Path | None, taken: dict[str, str]) -> OutputNames:
    return OutputNames(folder, owner_of=taken.get, is_free=lambda place: not place.exists())


def item(relative: str, path: str) -> tuple[WorkItem, SummaryRecord]:
    made = replace(record(), path=path, source=SourceRecord(path, PurePath(relative).name, "video"))
    return WorkItem(path, path, PurePath(relative)), made


def test_output_names_follow_the_source_and_are_unique(tmp_path: Path) -> None:
    taken: dict[str, str] = {}
    for relative, expected in [
        ("x.mp4", "x"),
        ("a/x.mp4", "a/x"),
        ("x.mkv", "x.mkv"),
        ("X.mp4", "X.mp4"),
        ("a/b/../x.mp4", "a/b/_/x"),
    ]:
        path = f"/videos/{relative}"
        names = OutputNames(
            tmp_path, owner_of=lambda name: taken.get(name.casefold()), is_free=lambda _: True
        )
        name = names.name_for(*item(relative, path))
        assert name == expected
        taken[name.casefold()] = path
    again = names.name_for(*item("x.mov", "/elsewhere/x.mov"))
    assert again == "x.mov"
    second = names_in(tmp_path, {"x": "/videos/x.mp4"}).name_for(*item("x.mp4", "/other/x.mp4"))
    assert re.fullmatch("x-[0-9a-f]{6}", second)
    assert not is_output_of(second, "/videos/x.mp4", "/videos/x.mp4"), "a swap is noticed"
    third = names.name_for(*item("x.mp4", "/third/x.mp4"))
    assert re.fullmatch("x-[0-9a-f]{6}", third)


def test_beside_option_uses_the_folder_of_the_video() -> None:
    names = names_in(None, {})
    assert names.name_for(*item("x.mp4", "/videos/a/x.mp4")) == "/videos/a/x"


def test_summary_subtitles_are_not_a_sidecar(tmp_path: Path) -> None:
    video = tmp_path / "party.mp4"
    video.touch()
    for ending in (".summary.srt", ".summary.vtt"):
        assert any(ending in endings for endings in SUFFIXES_BY_FORMAT.values())
        (tmp_path / f"party{ending}").write_text("x")
    assert find_sidecar(video) is None
