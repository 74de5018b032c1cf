"""Files of lines, and the split by video."""

import json
import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from smolvideo.source import VideoSource
from smolvideo.tune.items import MediaWindow, TuneItem, read_items, split_items
from smolvideo.tune.lines import DataLine


def item(number: int, *files: str) -> TuneItem:
    media = tuple(MediaWindow(VideoSource(name, Path(name), "video", name), name) for name in files)
    return TuneItem(DataLine(number, (), "?", "x"), media)


def test_copies_of_a_clip_are_on_one_side(data: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    first = data.parent / lines[0]["video"]
    shutil.copyfile(first, tmp_path / "a.mp4")
    shutil.copyfile(first, tmp_path / "b.mp4")
    shutil.copyfile(data.parent / lines[-1]["video"], tmp_path / "c.mp4")
    file = tmp_path / "data.jsonl"
    answers = [{"video": f"{name}.mp4", "question": "?", "answer": "x"} for name in "abc"]
    file.write_text("".join(json.dumps(one) + "\n" for one in answers))
    train, held = split_items(read_items(file).items, 0.3, seed=0)
    names = [{one.line.media[0].path for one in side} for side in (train, held)]
    assert {"a.mp4", "b.mp4"} in names
    assert {"c.mp4"} in names


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=3), min_size=1, max_size=20),
    st.floats(0, 0.9),
    st.integers(0, 5),
)
def test_no_file_is_on_both_sides(files: list[list[str]], share: float, seed: int) -> None:
    items = [item(number, *names) for number, names in enumerate(files)]
    train, held = split_items(items, share, seed)
    assert sorted(one.line.number for one in [*train, *held]) == list(range(len(items)))
    seen = [{media.sha256 for one in side for media in one.media} for side in (train, held)]
    assert not seen[0] & seen[1]
    assert train
    again = split_items(list(reversed(items)), share, seed)
    if all(files):  # lines without files have no name of their own
        assert {one.line.number for one in held} == {one.line.number for one in again[1]}


def test_missing_outside_and_remote_files_are_faults(data: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    shutil.copyfile(next(data.parent.glob("*.mp4")), tmp_path / "out.mp4")
    names = ["none.mp4", "../out.mp4", "https://example.org/a.mp4", str(tmp_path / "out.mp4")]
    file = inside / "data.jsonl"
    lines = [{"video": name, "question": "?", "answer": "x"} for name in names]
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    found = read_items(file)
    assert not found.items
    reasons = [fault.reason for fault in found.faults]
    assert [fault.number for fault in found.faults] == [1, 2, 3, 4]
    assert "no such file" in reasons[0]
    assert "outside" in reasons[1]
    assert "download it first" in reasons[2]
    assert "outside" in reasons[3]
    assert [one.line.number for one in read_items(file, allow_outside=True).items] == [2, 4]
    assert [one.line.number for one in read_items(file, media=tmp_path).items] == [4]
