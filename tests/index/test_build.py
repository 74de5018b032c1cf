"""Indexing with nano: every content once, windows kept after a stop, files that vanish."""

import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from support.clipmaker import evenly, write_clip
from support.project import ROOT

from smolvideo.engines import Engine, load_engine
from smolvideo.errors import ModelError, RecordError
from smolvideo.index import IndexOptions, IndexStore
from smolvideo.index.build import IndexRun, prune
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
    noted, asked = built._noted, []

    def stop_at_the_second(number: int, *more: object) -> object:
        asked.append(number)
        if len(asked) == 2:
            raise StoppedError
        return noted(number, *more)  # type: ignore[arg-type]

    built._noted = stop_at_the_second  # type: ignore[assignment, method-assign]
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
