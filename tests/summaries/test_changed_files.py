"""Files that are empty, grow or are replaced while a batch runs."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.project import ROOT

from smolvideo.engines import Engine, load_engine
from smolvideo.errors import SourceError
from smolvideo.files import content_hash, file_state, read_unchanged
from smolvideo.pipeline import prepare, prepare_prompt, record_answer, stream_answer
from smolvideo.sampling import FrameSampling
from smolvideo.source import resolve_source
from smolvideo.summaries import (
    ItemResult,
    OutputOptions,
    RunOptions,
    SummaryOptions,
    list_items,
    open_run,
)
from smolvideo.summaries.loader import VideoLoader, identify
from smolvideo.summaries.record_log import SummaryRecord

SAMPLES = ROOT / "samples"
FEW = SummaryOptions(max_frames=4)
CIRCLE = "A purple circle moves right on a brown background."


@pytest.fixture(scope="module")
def nano() -> Engine:
    return load_engine("nano")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "videos"
    base.mkdir()
    (base / "a.mp4").write_bytes(b"")
    shutil.copyfile(SAMPLES / "triangle_down.mp4", base / "b.mp4")
    return base


def put(source: str, target: Path) -> None:
    beside = target.with_name(".new")
    shutil.copyfile(SAMPLES / source, beside)
    os.replace(beside, target)


def batch_of(nano: Engine, folder: Path, out: Path) -> Any:
    outputs = OutputOptions(out, formats=("txt",))
    return open_run(nano.checkpoint, lambda: nano, [folder], FEW, outputs, RunOptions())


def told(done: ItemResult) -> tuple[str, str, bool]:
    return done.item.relative.as_posix(), done.outcome, done.is_new


def test_empty_file_is_retried_at_the_end(nano: Engine, folder: Path, tmp_path: Path) -> None:
    seen = []
    with batch_of(nano, folder, tmp_path / "out") as batch:
        for done in batch.run(list_items([folder])):
            seen.append(told(done))
            if len(seen) == 1:
                put("circle_right.mp4", folder / "a.mp4")
        assert (batch.tally.counts["failed"], batch.tally.counts["made"]) == (0, 2)
        assert batch.tally.total == 2
    assert seen == [
        ("a.mp4", "failed", True),
        ("b.mp4", "made", True),
        ("a.mp4", "made", True),
    ]
    lines = (tmp_path / "out" / "summaries.jsonl").read_text("utf-8").splitlines()
    records = [SummaryRecord.from_json(line) for line in lines]
    assert sorted(record.source.name for record in records) == ["a.mp4", "b.mp4"]
    assert (tmp_path / "out" / "a.summary.txt").read_text() == CIRCLE + "\n"


def test_file_that_stays_empty_is_reported_once(nano: Engine, folder: Path, tmp_path: Path) -> None:
    for is_new in (True, False):
        with batch_of(nano, folder, tmp_path / "out") as batch:
            seen = [told(done) for done in batch.run(list_items([folder]))]
            assert batch.tally.counts["failed"] == 1
        assert seen[0] == ("a.mp4", "failed", is_new)
        assert len(seen) == 2


def test_invalid_file_name_in_a_pattern_leaves_the_others(folder: Path) -> None:
    first, second = list_items([str(folder / "*.mp4")])
    assert "`" + str(folder / "a.mp4") + "` is empty" in str(first.error)
    assert first.path == str(folder / "a.mp4")
    assert second.source is not None
    (named,) = list_items([str(folder / "a.mp4")])
    assert (named.path, str(named.error)) == (first.path, str(first.error))


def test_file_replaced_during_decoding_is_summarised_again(
    nano: Engine, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b.mp4").unlink()
    put("triangle_down.mp4", folder / "a.mp4")
    plain, times = VideoLoader._prepared, []

    def prepared(self: VideoLoader, *arguments: Any) -> Any:
        made = plain(self, *arguments)
        if not times:
            times.append(1)
            put("circle_right.mp4", folder / "a.mp4")
        return made

    monkeypatch.setattr(VideoLoader, "_prepared", prepared)
    with batch_of(nano, folder, tmp_path / "out") as batch:
        first, second = batch.run(list_items([folder]))
    assert "a.mp4` changes while it is read" in str(first.record.error)
    assert second.record.text == CIRCLE
    assert second.record.source.sha256 == content_hash(SAMPLES / "circle_right.mp4")


def test_file_replaced_during_hashing_is_an_error(folder: Path) -> None:
    (source,) = resolve_source(str(folder / "b.mp4"))

    def changed(path: str, stamp: tuple[int, ...]) -> str:
        put("circle_right.mp4", folder / "b.mp4")
        return "0" * 64

    with pytest.raises(SourceError, match="changes while it is read"):
        identify(source, "b.mp4", changed)


def test_file_replaced_after_hashing_is_an_error(nano: Engine, folder: Path) -> None:
    (_, item) = list_items([folder])
    assert item.source is not None
    found = identify(item.source, item.path, lambda *_: None)
    with batch_of(nano, folder, folder / "out") as batch:
        looker = batch.looker
    assert next(looker.pieces_of(item, found)) is not None
    put("circle_right.mp4", folder / "b.mp4")
    with pytest.raises(SourceError, match="changes while it is read"):
        looker.pieces_of(item, found)


def test_record_hash_is_that_of_the_decoded_content(
    nano: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = folder / "b.mp4"
    plain, times = prepare_prompt._decoded, []

    def decoded(*arguments: Any) -> Any:
        batches = plain(*arguments)
        if not times:
            times.append(1)
            put("circle_right.mp4", video)
        return batches

    monkeypatch.setattr(prepare_prompt, "_decoded", decoded)
    prepared = prepare(nano.checkpoint, video, "What moves?", sampling=FrameSampling(max_frames=4))
    answer = stream_answer(nano, prepared).result()
    record = record_answer(prepared, nano, answer)
    assert record.sources[0].sha256 == content_hash(SAMPLES / "circle_right.mp4")
    assert record.notices == prepared.notices
    put("triangle_down.mp4", video)
    record = record_answer(prepared, nano, answer)
    assert record.sources[0].sha256 is None
    assert record.notices[-1].startswith("`b.mp4` has changed since its frames were decoded")


def test_file_state_follows_content_and_names(tmp_path: Path) -> None:
    file = tmp_path / "frames" / "1.jpg"
    file.parent.mkdir()
    file.write_bytes(b"one")
    states = [file_state(file), file_state(file.parent)]
    assert states == [file_state(file), file_state(file.parent)]
    (file.parent / ".hidden").touch()
    assert file_state(file.parent) == states[1]
    os.utime(file, ns=(1, 1))
    assert file_state(file) != states[0]
    assert file_state(file.parent) != states[1]
    before = file_state(file.parent)
    file.rename(file.with_name("2.jpg"))
    assert file_state(file.parent) != before
    assert file_state(tmp_path / "none") == file_state(Path("\0")) == ()


def test_rereading_a_growing_file_is_bounded(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"")
    for growths, reads in ((0, 1), (1, 2), (2, 3)):
        calls = []

        def read(growths: int = growths, calls: list[int] = calls) -> int:
            calls.append(1)
            if len(calls) <= growths:
                file.write_bytes(file.read_bytes() + b"x")
            return len(calls)

        assert read_unchanged(read, file) == reads
    with pytest.raises(SourceError, match="changes while"):
        read_unchanged(lambda: file.write_bytes(file.read_bytes() + b"x"), file)
