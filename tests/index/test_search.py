"""Search with nano: candidates, confirmation by frames, moments, subtitles, scans."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.project import ROOT

from smolvideo.engines import Engine, load_engine
from smolvideo.errors import SourceError, UsageError
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.index import (
    IndexOptions,
    IndexStore,
    SearchOptions,
    SearchResult,
    VideoSearch,
    open_scope,
)
from smolvideo.index.build import IndexRun
from smolvideo.index.checks import YES_NO, log_odds
from smolvideo.index.claims import this_process
from smolvideo.index.entries import IndexedWindow
from smolvideo.index.frame_scores import WindowFrames, split_at_cuts
from smolvideo.index.query_checks import checks_of
from smolvideo.index.search import _with_neighbours
from smolvideo.index.search_types import Candidate, SearchedVideo
from smolvideo.index.text_match import NO_MATCH, match_texts
from smolvideo.models import open_checkpoint
from smolvideo.subtitles import Cue
from smolvideo.summaries import list_items
from smolvideo.summaries.loader import file_stat

SAMPLES = ROOT / "samples"
WHOLE = IndexOptions(window_seconds=20.0, at_shot_changes=False)


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of different objects; three shots are in one window of the index."""
    base = tmp_path_factory.mktemp("find") / "videos"
    base.mkdir()
    names = ("circle_right.mp4", "three_shots.mp4", "number_42.mp4")
    subtitled = ("triangle_then_cross_subtitled.mp4", "triangle_then_cross_subtitled.srt")
    for name in (*names, *subtitled):
        shutil.copyfile(SAMPLES / name, base / name)
    return base


@pytest.fixture(scope="module")
def index(nano: Engine, folder: Path) -> Path:
    path = folder.parent / "index.sqlite"
    with IndexStore(path) as store:
        for _ in IndexRun(nano.checkpoint, lambda: nano, WHOLE, store).run(list_items([folder])):
            pass
    return path


def no_engine() -> Engine:
    raise AssertionError("the model was not needed")


def find(
    engine: Engine | None,
    index: Path,
    query: str,
    *sources: Path,
    scan: bool = False,
    **options: object,
) -> SearchResult:
    chosen = SearchOptions(confirm=engine is not None, index=WHOLE, **options)  # type: ignore[arg-type]
    with open_scope(index, sources, chosen, scan=scan) as scope:
        load = no_engine if engine is None else lambda: engine
        found = VideoSearch(scope.videos, scope.store, load, chosen).search(query)
        return scope.with_failures(found)


def names(found: SearchResult) -> list[str]:
    return [Path(hit.path).name for hit in found.hits]


def test_best_hit_shows_the_query(nano: Engine, index: Path) -> None:
    found = find(nano, index, "a purple circle moves right")
    assert names(found)[0] == "circle_right.mp4"
    assert found.hits[0].score > 0.9
    assert found.hits[0].evidence == "frames"
    assert found.model == "nano"
    assert find(nano, index, "a purple circle moves left").hits == ()


def test_score_is_honest_about_words_that_nothing_confirms(nano: Engine, index: Path) -> None:
    assert find(nano, index, "a purple circle and a dog").hits == ()
    found = find(nano, index, "a purple circle and a dog", min_score=0.3)
    assert names(found)[0] == "circle_right.mp4"
    assert 0.4 < found.hits[0].score <= 0.5
    assert "`dog`" in found.notices[0]


def test_shape_of_any_colour_is_found(nano: Engine, index: Path) -> None:
    assert {"circle_right.mp4", "three_shots.mp4"} <= {*names(find(nano, index, "a circle"))}
    assert "circle_right.mp4" in names(find(nano, index, "something purple"))


def test_hit_is_narrowed_to_its_shot(nano: Engine, index: Path) -> None:
    """First a red circle, then a blue star, then a green cross; see samples/README.md."""
    spans = []
    for query in ("a red circle", "a blue star", "a green cross"):
        hit = find(nano, index, query).hits[0]
        assert Path(hit.path).name == "three_shots.mp4"
        spans.append((hit.start_seconds, hit.end_seconds))
        assert all(hit.start_seconds <= time <= hit.end_seconds for time in hit.frame_times)
    step = WHOLE.window_seconds / WHOLE.max_frames
    assert spans[0][0] == 0.0
    assert spans[0][1] == pytest.approx(spans[1][0], abs=step)
    assert spans[1][1] == pytest.approx(spans[2][0], abs=step)


def test_scan_of_videos_in_no_index_finds_the_same(nano: Engine, index: Path, folder: Path) -> None:
    scanned = find(nano, index, "a purple circle", folder, scan=True)
    assert names(scanned)[:1] == ["circle_right.mp4"]
    assert scanned.hits[0].note == ""
    assert scanned.hits[0].sha256 is None


def test_subtitles_are_found_with_their_time(nano: Engine, index: Path, folder: Path) -> None:
    with IndexStore(index) as store:
        cue = next(cue for _, one in store.windows(range(9)) for cue in one.cues)
    for engine in (None, nano):
        hit = find(engine, index, cue.text).hits[0]
        assert hit.evidence == "subtitles"
        assert hit.subtitles == cue.text
        assert hit.start_seconds == pytest.approx(cue.start_seconds, abs=0.01)
        assert hit.end_seconds == pytest.approx(cue.end_seconds, abs=0.01)


def test_written_text_is_found_by_the_note(nano: Engine, index: Path) -> None:
    assert names(find(nano, index, "the number 42"))[:1] == ["number_42.mp4"]


def test_copy_that_is_as_it_was_takes_the_place_of_a_changed_file(
    nano: Engine, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    shutil.copyfile(SAMPLES / "circle_right.mp4", first)
    shutil.copyfile(first, second)
    path = tmp_path / "index.sqlite"
    with IndexStore(path) as store:
        list(IndexRun(nano.checkpoint, lambda: nano, WHOLE, store).run(list_items([tmp_path])))
    first.write_bytes(b"another video")
    found = find(None, path, "purple circle")
    assert (names(found), found.notices) == (["b.mp4"], ())
    shutil.move(second, tmp_path / "c.mp4")
    found = find(None, path, "purple circle")
    assert (names(found), "1 file of the index gone" in found.notices[0]) == ([], True)
    link = tmp_path / "link"
    if os.name != "nt":
        link.symlink_to(tmp_path)
    for source in (tmp_path / "c.mp4", link / "c.mp4"):  # moved, and through a link: known by hash
        found = find(None, path, "purple circle", source)
        assert (names(found), found.notices) == (["c.mp4"], ())


def test_what_the_index_lacks_is_a_notice(index: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "index.sqlite"
    with IndexStore(index) as store:
        store._database.execute("VACUUM INTO ?", (str(copy),))
    with IndexStore(copy) as store:
        done, broken, *_ = (entry.sha256 for entry in store.contents())
        store.finish(broken, error="cannot be read")
        store._database.execute("UPDATE content SET is_complete = 0 WHERE sha256 = ?", (done,))
    found = find(None, copy, "purple circle")
    assert any("1 video of the index not indexed to the end" in one for one in found.notices)
    assert any("1 file could not be indexed" in one for one in found.notices)


def test_changed_subtitles_are_a_notice(nano: Engine, tmp_path: Path) -> None:
    video, path = tmp_path / "circle.mp4", tmp_path / "index.sqlite"
    shutil.copyfile(SAMPLES / "circle_right.mp4", video)
    with IndexStore(path) as store:
        list(IndexRun(nano.checkpoint, lambda: nano, WHOLE, store).run(list_items([video])))
    assert find(None, path, "purple").notices == ()
    video.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nA harbour.\n")
    for sources in ((), (video,)):
        (notice,) = find(None, path, "purple", *sources).notices
        assert "the subtitles of 1 file have changed since" in notice


def test_missing_source_is_an_error_without_confirmation_too(index: Path, folder: Path) -> None:
    gone = folder / "none.mp4"
    with pytest.raises(UsageError, match="cannot be searched"):
        find(None, index, "purple", gone)
    found = find(None, index, "purple", gone, folder / "number_42.mp4")
    assert [*found.failed] == [str(gone)]


def test_search_without_confirmation_needs_no_model(index: Path) -> None:
    found = find(None, index, "purple circle")
    assert names(found)[0] == "circle_right.mp4"
    assert (found.hits[0].score, found.hits[0].log_odds) == (1.0, None)
    assert found.searched["candidates"] == 0
    assert find(None, index, "zebra").hits == ()


def test_search_is_limited_to_sources(nano: Engine, index: Path, folder: Path) -> None:
    found = find(nano, index, "a red circle", folder / "circle_right.mp4")
    assert "three_shots.mp4" not in names(found)
    assert found.searched["videos"] == 1


def test_file_that_changed_since_is_scanned(tmp_path: Path) -> None:
    path, video = tmp_path / "index.sqlite", tmp_path / "video.mp4"
    shutil.copyfile(SAMPLES / "circle_right.mp4", video)
    with IndexStore(path) as store:
        owner = this_process()
        store.claim("a", settings_key="k", model="nano", window_seconds=10, owner=owner)
        store.add_path(str(video), "a", file_stat(video))
        store.finish("a")
    scanned = []
    for name in ("circle_right.mp4", "star_up_rotated.mp4"):
        if name != "circle_right.mp4":
            shutil.copyfile(SAMPLES / name, video)
        with open_scope(path, [video], SearchOptions(index=WHOLE)) as scope:
            scanned.append(scope.scanned)
    assert scanned == [0, 1]


def test_vanished_video_is_left_out_with_a_notice(nano: Engine, index: Path, folder: Path) -> None:
    video = folder / "circle_right.mp4"
    hidden = video.with_suffix(".hidden")
    video.rename(hidden)
    try:
        for engine in (nano, None):
            found = find(engine, index, "a red circle")
            assert names(found)[0] == "three_shots.mp4"
            assert "circle_right.mp4" not in names(found)
            assert "1 file of the index gone or changed" in found.notices[0]
            assert found.failed == {}
    finally:
        hidden.rename(video)


@pytest.mark.parametrize("query", ["", "  ", "?!"])
def test_query_without_words_is_refused(index: Path, query: str) -> None:
    with pytest.raises(UsageError, match="no words"):
        find(None, index, query)


def test_neither_index_nor_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no index yet") as caught:
        open_scope(tmp_path / "none.sqlite", (), SearchOptions())
    assert "smolvideo index" in str(caught.value.hint)


def questions(query: str, model: str = "nano") -> Sequence[tuple[str, str]]:
    checks = checks_of(query, open_checkpoint(model)).checks
    return [(check.question, check.choices[check.wanted]) for check in checks]


def test_checks_of_nano_are_in_the_words_of_its_training() -> None:
    assert questions("an orange star on a black background") == [
        ("What colour is the background?", "black"),
        ("Is there an orange star?", "yes"),
    ]
    assert questions("Red circle moving left past a blue square.") == [
        ("Is there a red circle?", "yes"),
        ("What does the red circle do?", "it moves left"),
        ("Is there a blue square?", "yes"),
    ]
    for query, caption in (("the word stop", "STOP"), ("number 42", "42"), ("EXIT", "EXIT")):
        assert questions(query) == [("What does the text say?", caption)]
    assert questions("a still green star turns blue")[1:] == [
        ("What does the green star do?", "it turns blue"),
    ]
    assert questions("the large blue cross disappears")[1:] == [
        ("How big is the blue cross?", "large"),
        ("What does the blue cross do?", "it disappears"),
    ]
    assert questions("a yellow square with the word go on white") == [
        ("What does the text say?", "GO"),
        ("What colour is the background?", "white"),
        ("Is there a yellow square?", "yes"),
    ]
    assert questions("a dog in the snow") == []


@pytest.mark.parametrize(
    ("query", "count", "one"),
    [
        ("a circle", 6, "Is there an orange circle?"),
        ("stars", 6, "Is there a blue star?"),
        ("something purple", 5, "Is there a purple triangle?"),
        ("a red thing", 5, "Is there a red cross?"),
        ("a star that is green", 1, "Is there a green star?"),
    ],
)
def test_nano_is_asked_about_colour_and_shape_together(query: str, count: int, one: str) -> None:
    (check,) = checks_of(query, open_checkpoint("nano")).checks
    asked = [each.question for each in check.alternatives()]
    assert (len(asked), one in asked) == (count, True)
    assert log_odds([check], lambda each: (0.9, 0.1) if each.question == one else (0, 1)) > 2


@pytest.mark.parametrize(
    ("query", "unchecked"),
    [
        ("a red circle and a dog", ("dog",)),
        ("a circle but no star", ("but", "no")),
        ("a red circle or a blue star", ("or",)),
        ("a red circle moves left past a blue square", ()),
        ("two red circles", ("two",)),
        ("красный круг", ("красный", "круг")),
        ("a dog in the snow", ("dog", "snow")),
        ("EXIT", ()),
        ("RED CIRCLE on a gray background", ()),
    ],
)
def test_words_that_nano_cannot_check_are_named(query: str, unchecked: tuple[str, ...]) -> None:
    asked = checks_of(query, open_checkpoint("nano"))
    assert asked.unchecked == unchecked
    notices = asked.notices(open_checkpoint("nano"))
    assert len(notices) == bool(unchecked)
    assert all(f"`{word}`" in notices[0] for word in unchecked)


@pytest.mark.parametrize("act", ["moves right", "stands still", "moving"])
def test_what_stands_still_is_a_choice_beside_every_way(act: str) -> None:
    *_, check = checks_of(f"a red star {act}", open_checkpoint("nano")).checks
    assert ("it stands still" in check.choices) == (act != "moving")
    assert not check.is_presence


def window_frames(number: int, greys: Sequence[int]) -> WindowFrames:
    """A window of 4 seconds with a frame of one grey each second."""
    images = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in greys])
    start = 4.0 * number
    times = tuple(float(n) for n in range(len(greys)))
    metadata = VideoMetadata(8, 8, 12.0)
    return WindowFrames(
        IndexedWindow(number, start, start + 4, tuple(start + t for t in times)),
        FrameBatch(images, times, metadata),
    )


def test_frames_are_split_at_cuts() -> None:
    def shots(*greys: int) -> list[tuple[int, ...]]:
        return split_at_cuts(window_frames(0, greys).batch.images)

    assert shots(9) == [(0,)]
    assert shots(9, 9, 12, 12) == [(0, 1, 2, 3)]
    assert shots(9, 9, 9, 99, 99, 99, 200) == [(0, 1, 2), (3, 4, 5), (6,)]
    assert shots(0, 20, 40, 60) == [(0, 1, 2, 3)], "a pan changes all the time"


def test_motion_is_asked_over_the_shot_beyond_the_window() -> None:
    before, here, after = (
        window_frames(n, greys)
        for n, greys in enumerate([(0, 0, 50, 50), (50, 50, 99, 99), (99, 200, 200, 200)])
    )
    seen = replace(here, before=before, after=after)
    first = seen.of_shot((0, 1))
    assert first is not None
    assert [int(image.max()) for image in first.images] == [50] * 4
    assert first.pts_seconds == (0.0, 1.0, 2.0, 3.0)
    last = seen.of_shot((2, 3))
    assert last is not None
    assert ([int(one.max()) for one in last.images], last.pts_seconds) == ([99] * 3, (0, 1, 2))
    assert seen.of_shot((1,)) is None, "it does not touch the border of the window"
    assert replace(here, after=after).of_shot((0, 1)) is None


def test_windows_next_to_each_other_see_each_other() -> None:
    def candidate(number: int) -> Candidate:
        window = window_frames(number, (number,)).window
        return Candidate(SearchedVideo("a.mp4"), window, NO_MATCH)

    numbers = (0, 1, 3, 4, 5)
    frames: list[FrameBatch | SourceError] = [window_frames(n, (n,)).batch for n in numbers]
    frames[3] = SourceError("broken")
    found = [*_with_neighbours([candidate(n) for n in numbers], frames)]
    around = [
        tuple(one and one.window.number for one in (seen.before, seen.after))
        if isinstance(seen, WindowFrames)
        else str(seen)
        for _, seen in found
    ]
    assert around == [(None, 1), (0, None), (None, None), "broken", (None, None)]


def test_log_odds_are_those_of_all_checks_together() -> None:
    checks = checks_of("a red circle and a blue square", open_checkpoint("nano")).checks
    assert [check.choices for check in checks] == [YES_NO, YES_NO]
    assert log_odds(checks, lambda _: (0.5, 0.5)) == pytest.approx(-1.0986, abs=1e-3)
    assert log_odds(checks, lambda _: (1.0, 0.0)) > 15
    assert log_odds(checks, lambda _: (0.0, 1.0)) < -15


def test_texts_match_by_stems_and_fields() -> None:
    window = IndexedWindow(
        0, 0, 10, (0.0,), "Two dogs run.", "EXIT", (Cue(1, 2, "Snow!"), Cue(3, 4, "No."))
    )
    (match,) = match_texts("a dog running to the exit in snow", [window])
    assert match.terms == 4
    assert (match.note, match.screen, match.cues) == (0.75, 0.25, 0.25)
    assert match.matching_cues == (Cue(1, 2, "Snow!"),)
