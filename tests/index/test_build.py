"""Indexing with nano: every content once, windows kept after a stop, files that vanish."""

import os
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support.clipmaker import evenly, write_clip
from support.project import ROOT

from smolvideo.engines import Engine, load_engine
from smolvideo.errors import ModelError, RecordError
from smolvideo.files import content_hash
from smolvideo.index import IndexOptions, IndexStore
from smolvideo.index.build import IndexRun, prune
from smolvideo.index.claims import LEASE_SECONDS
from smolvideo.index.options import screen_text
from smolvideo.summaries import list_items

SAMPLES = ROOT / "samples"
FEW = IndexOptions(window_seconds=5.0, max_frames=2)


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, one of them twice, a broken file, and subtitles beside a video."""
    base = tmp_path / "videos"
    base.mkdir()
    shutil.copyfile(SAMPLES / "circle_right.mp4", base / "circle.mp4")
    for name in ("triangle_then_cross_subtitled.mp4", "triangle_then_cross_subtitled.srt"):
        shutil.copyfile(SAMPLES / name, base / name)
    shutil.copyfile(SAMPLES / "circle_right.mp4", base / "z again.mp4")
    (base / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 99)
    return base


@pytest.fixture
def store(tmp_path: Path) -> IndexStore:
    return IndexStore(tmp_path / "index.sqlite")


def run(
    nano: Engine, store: IndexStore, *given: Path, options: IndexOptions = FEW, **more: object
) -> dict[str, str]:
    """Index, and return the outcome of each file."""
    built = IndexRun(nano.checkpoint, lambda: nano, options, store, **more)  # type: ignore[arg-type]
    return {Path(done.item.path).name: done.outcome for done in built.run(list_items(given))}


def rows(store: IndexStore) -> list[tuple[object, ...]]:
    """Everything that two indexes of the same videos have in common."""
    return store._rows(
        "SELECT sha256, number, start_seconds, end_seconds, frame_times, note, cues, is_complete "
        "FROM window JOIN content ON content.id = window.content ORDER BY sha256, number"
    )


def test_every_content_is_indexed_once(nano: Engine, store: IndexStore, folder: Path) -> None:
    assert run(nano, store, folder) == {
        "broken.mp4": "failed",
        "circle.mp4": "made",
        "triangle_then_cross_subtitled.mp4": "made",
        "z again.mp4": "same",
    }
    status = store.status()
    assert (status.videos, status.files, status.failed, status.incomplete) == (3, 4, 1, 0)
    assert [content for _, content in store.paths()].count(2) == 2
    assert "header is lost" in str(store.contents()[0].error)
    windows = [one for _, one in store.windows([2])]
    assert "purple circle" in windows[0].note
    assert windows[0].start_seconds == 0.0
    assert all(a.end_seconds == b.start_seconds for a, b in pairwise(windows))


def test_subtitles_are_in_the_windows_in_which_they_are_shown(
    nano: Engine, store: IndexStore, folder: Path
) -> None:
    run(nano, store, folder / "triangle_then_cross_subtitled.mp4")
    windows = [one for _, one in store.windows([1])]
    said = [cue for one in windows for cue in one.cues]
    assert said
    for one in windows:
        for cue in one.cues:
            assert cue.start_seconds < one.end_seconds
            assert cue.end_seconds > one.start_seconds
    word = said[0].text.split()[-1].strip(".!?,")
    assert store.search(word)


def test_second_run_computes_nothing(nano: Engine, store: IndexStore, folder: Path) -> None:
    run(nano, store, folder)
    before = rows(store)

    def no_engine() -> Engine:
        raise AssertionError("the model was not needed")

    again = IndexRun(nano.checkpoint, no_engine, FEW, store)
    outcomes = {done.name: done.outcome for done in again.run(list_items([folder]))}
    assert outcomes == {
        "broken.mp4": "failed",
        "circle.mp4": "kept",
        "triangle_then_cross_subtitled.mp4": "kept",
        "z again.mp4": "kept",
    }
    assert rows(store) == before


def test_stopped_run_continues_at_the_missing_window(
    nano: Engine, store: IndexStore, folder: Path, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    film = folder / "triangle_then_cross_subtitled.mp4"
    built = IndexRun(nano.checkpoint, lambda: nano, FEW, store)
    note, asked = built.notes.note, []

    def stop_at_the_second(number: int, *more: object) -> object:
        asked.append(number)
        if len(asked) == 2:
            raise StoppedError
        return note(number, *more)  # type: ignore[arg-type]

    built.notes.note = stop_at_the_second  # type: ignore[assignment, method-assign]
    with pytest.raises(StoppedError):
        list(built.run(list_items([film])))
    assert (store.status().windows, store.status().incomplete) == (1, 1)
    asked.clear()
    resumed = IndexRun(nano.checkpoint, lambda: nano, FEW, store)
    (done,) = resumed.run(list_items([film]))
    with IndexStore(tmp_path / "undisturbed.sqlite") as other:
        run(nano, other, film)
        assert rows(store) == rows(other)
        assert done.windows == other.status().windows - 1


def test_other_settings_index_again(nano: Engine, store: IndexStore, folder: Path) -> None:
    video = folder / "circle.mp4"
    run(nano, store, video)
    assert run(nano, store, video, options=IndexOptions(max_frames=2)) == {"circle.mp4": "made"}
    assert store.status().windows == 1


def test_changed_file_is_indexed_again(nano: Engine, store: IndexStore, folder: Path) -> None:
    video = folder / "circle.mp4"
    run(nano, store, video)
    shutil.copyfile(SAMPLES / "star_up_rotated.mp4", video)
    assert run(nano, store, video) == {"circle.mp4": "made"}
    assert store.status().videos == 1
    assert not store.search("circle")


def test_vanished_files_are_pruned_unless_the_drive_is_gone(
    nano: Engine, store: IndexStore, folder: Path
) -> None:
    run(nano, store, folder)
    (folder / "circle.mp4").unlink()
    assert prune(store, [folder]) == 1
    assert store.search("circle"), "the copy is still there"
    (folder / "z again.mp4").unlink()
    assert prune(store, [folder / "z again.mp4"]) == 1
    assert not store.search("circle")
    files = store.status().files
    moved = folder.with_name("unplugged")
    folder.rename(moved)
    assert (prune(store, [folder]), prune(store)) == (0, 0)
    folder.mkdir()  # the place where a drive would be mounted
    assert (prune(store, [folder]), store.status().files) == (0, files)


def test_subtitles_that_appear_or_change_are_read_without_the_model(
    nano: Engine, store: IndexStore, folder: Path
) -> None:
    def no_engine() -> Engine:
        raise AssertionError("the model was not needed")

    def again() -> tuple[str, tuple[str, ...]]:
        (done,) = IndexRun(nano.checkpoint, no_engine, FEW, store).run(list_items([video]))
        return done.outcome, done.notices

    video, beside = folder / "circle.mp4", folder / "circle.srt"
    run(nano, store, video)
    beside.write_text("1\n00:00:01,000 --> 00:00:02,000\nA lighthouse.\n")
    outcome, notices = again()
    assert (outcome, "subtitles have changed" in notices[0]) == ("made", True)
    assert [one.cue_text for _, one in store.search("lighthouse")] == ["A lighthouse."]
    assert again() == ("kept", ())
    beside.write_text("1\n00:00:01,000 --> 00:00:02,000\nA harbour.\n")
    assert again()[0] == "made"
    assert (len(store.search("harbour")), store.search("lighthouse")) == (1, [])
    beside.unlink()
    assert again()[0] == "made"
    assert store.search("harbour") == []


def test_subtitles_beside_a_copy_are_found(nano: Engine, store: IndexStore, folder: Path) -> None:
    (folder / "z again.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nA harbour.\n")
    run(nano, store, folder / "circle.mp4")
    assert run(nano, store, folder / "z again.mp4") == {"z again.mp4": "made"}
    assert len(store.search("harbour")) == 1
    more = IndexOptions(window_seconds=4.0, max_frames=2)
    assert run(nano, store, folder / "circle.mp4", options=more) == {"circle.mp4": "made"}
    assert len(store.search("harbour")) == 1


def test_video_of_a_process_that_has_ended_is_indexed_at_the_end_of_the_run(
    nano: Engine, store: IndexStore, folder: Path
) -> None:
    """The claim of another machine runs out while the other videos are indexed."""
    built = IndexRun(nano.checkpoint, lambda: nano, FEW, store)
    sha256 = content_hash(folder / "circle.mp4")
    now = time.time()
    claim = f"elsewhere 1 {now:.2f} {now:.0f}"
    settings = {"settings_key": built.settings_key, "model": "nano", "window_seconds": 5.0}
    assert store.claim(sha256, owner=claim, **settings)  # type: ignore[arg-type]
    done = {}
    for one in built.run(list_items([folder])):
        done[one.name] = one.outcome
        store.renew(sha256, owner=f"elsewhere 1 {now:.2f} {now - 2 * LEASE_SECONDS:.0f}")
    assert (done["circle.mp4"], done["z again.mp4"]) == ("made", "same")
    assert built.tally.total == 4


def test_missing_model_ends_the_run_and_frees_the_claim(
    nano: Engine, store: IndexStore, folder: Path
) -> None:
    def broken() -> Engine:
        raise ModelError("no weights")

    with pytest.raises(ModelError, match="no weights"):
        list(IndexRun(nano.checkpoint, broken, FEW, store).run(list_items([folder])))
    assert run(nano, store, folder)["circle.mp4"] == "made"


def test_unwritable_index_ends_the_run(nano: Engine, store: IndexStore, folder: Path) -> None:
    built = IndexRun(nano.checkpoint, lambda: nano, FEW, store)
    store._database.execute("DROP TABLE window_text")
    with pytest.raises(RecordError, match="index"):
        list(built.run(list_items([folder])))


def test_real_footage_has_a_notice(nano: Engine, store: IndexStore, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "real.mp4", evenly(30, 10)).path
    (done,) = IndexRun(nano.checkpoint, lambda: nano, FEW, store).run(list_items([clip]))
    assert any("nano" in notice for notice in done.notices)


@pytest.mark.parametrize("answer", ["", "none", "None.", '"No text"', " NOTHING "])
def test_no_text_on_screen_is_empty(answer: str) -> None:
    assert screen_text(answer) == ""


@pytest.mark.skipif(os.name == "nt", reason="hardware: names are Unicode on Windows")
def test_name_that_is_not_utf8_fails_alone(nano: Engine, store: IndexStore, tmp_path: Path) -> None:
    strange = tmp_path / os.fsdecode(b"a\xff.mp4")
    try:
        shutil.copyfile(SAMPLES / "circle_right.mp4", strange)
    except OSError:  # macOS refuses such names
        return
    shutil.copyfile(SAMPLES / "triangle_down.mp4", tmp_path / "z.mp4")
    built = IndexRun(nano.checkpoint, lambda: nano, FEW, store)
    first, second = built.run(list_items([tmp_path]))
    assert first.outcome == "failed"
    assert "not UTF-8" in str(first.error)
    assert second.outcome == "made"
    assert store.failures() == {}


def test_files_that_were_never_indexed_are_not_counted_as_gone(
    store: IndexStore, tmp_path: Path
) -> None:
    (tmp_path / "here.mp4").write_bytes(b"")
    store.add_failure(str(tmp_path / "none.mp4"), "no such file")
    assert prune(store, [tmp_path]) == 0
    assert store.failures() == {}
