"""Answer records: complete lines, no loss, other files unchanged, atomic output files."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.errors import RecordError
from smolvideo.files import content_hash
from smolvideo.records import (
    AnswerRecord,
    RecordWriter,
    SourceRecord,
    read_records,
    write_text_atomic,
)

SOURCE = SourceRecord("clips/a b.mp4", "a b.mp4", "video", "ab" * 32, None, (0.0, 1.5), "official")
RECORD = AnswerRecord(
    question="What is it?",
    sources=(SOURCE,),
    text="A dog 🐶\nand a \u2028 cat",
    stop_reason="end",
    settings={"max_frames": 50, "start_seconds": "50%", "stop": []},
    layout="smolvlm2",
    model="nano",
    tokens={"prompt": 400, "answer": 5, "context": 2048},
    seconds={"decode": 0.1},
    notices=("42 of 50 frames are used",),
)
ERROR = replace(RECORD, text=None, stop_reason=None, error="no such file: `x`", hint="look again")


def test_record_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with RecordWriter(path) as writer:
        writer.write(RECORD)
        writer.write(ERROR)
        assert read_records(path) == [RECORD, ERROR], "written means on disk, not when closed"
    assert len(path.read_bytes().split(b"\n")) == 3
    assert json.loads(path.read_text().splitlines()[0])["record"] == "smolvideo.answer/2"


@given(st.text(), st.text(), st.floats(-1e9, 1e9))
def test_record_of_any_text_is_one_line(question: str, text: str, time: float) -> None:
    clean = [part.encode("utf-8", "replace").decode() for part in (question, text)]
    source = replace(SOURCE, frame_times=(time,))
    record = AnswerRecord(clean[0], (source,), text=clean[1])
    line = record.to_json()
    assert "\n" not in line
    assert AnswerRecord.from_json(line.encode()) == record


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": {"prompt": -1}},
        {"frames_from_cache": -5},
        {"seconds": {"encode": -0.1}},
        {"seconds": {"encode": 1e10}},
        {"peak_memory_bytes": -1},
        {"sources": [asdict(SOURCE) | {"frame_times": [1e30]}]},
    ],
)
def test_impossible_numbers_are_an_error(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    broken = json.dumps(json.loads(RECORD.to_json()) | changes)
    path.write_text(f"{RECORD.to_json()}\n{broken}\n{RECORD.to_json()}\n")
    with pytest.raises(RecordError, match=f"line 2.*{next(iter(changes))}"):
        read_records(path)


def test_file_name_that_is_not_utf8_can_be_recorded(tmp_path: Path) -> None:
    record = replace(RECORD, sources=(replace(SOURCE, given="\udcff.mp4"),))
    with RecordWriter(tmp_path / "r.jsonl") as writer:
        writer.write(record)
    assert read_records(tmp_path / "r.jsonl") == [record]


def test_record_has_either_text_or_error() -> None:
    for wrong in ({}, {"text": "a", "error": "b"}, {"text": "a", "hint": "b"}):
        with pytest.raises(ValueError, match="record"):
            AnswerRecord("q", (), **wrong)  # type: ignore[arg-type]
    assert AnswerRecord("q", (), text="").text == ""


def test_nan_and_infinity_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(RECORD, seconds={"decode": float("inf")}).to_json()


def test_unknown_keys_are_ignored() -> None:
    content = json.loads(RECORD.to_json()) | {"record": "smolvideo.answer/2", "mood": "good"}
    content["sources"][0]["codec"] = "h264"
    assert AnswerRecord.from_json(json.dumps(content)) == RECORD


def test_partial_last_line_is_truncated_at_any_cut(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    whole = (RECORD.to_json() + "\n" + ERROR.to_json() + "\n").encode()
    first = len(RECORD.to_json().encode()) + 1
    for end in [*range(0, 40), first - 1, first, first + 1, first + 30, len(whole) - 1, len(whole)]:
        path.write_bytes(whole[:end])
        kept = [RECORD] * (end >= first - 1) + [ERROR] * (end >= len(whole) - 1)
        assert read_records(path) == kept
        with RecordWriter(path) as writer:
            writer.write(RECORD)
        assert read_records(path) == [*kept, RECORD], f"cut after {end} bytes"
        assert path.read_bytes().endswith(b"\n")


def test_long_partial_line_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    long = replace(RECORD, text="x" * 300_000).to_json()
    path.write_text(RECORD.to_json() + "\n" + long[:-10])
    with RecordWriter(path) as writer:
        writer.write(ERROR)
    assert read_records(path) == [RECORD, ERROR]


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b"{}\n",
        b'{"record": "other"}\n',
        b"\x00\x01\x02",
        b"\n",
        b'{"a": 1}',
        b'{"record": "smolvideo.answer/1"}\n',
        b'{"record": "smolvideo.answer/1", "question": "", "sources": ["a.mp4"], "text": ""}\n',
        b"[" * 200_000,
    ],
)
def test_other_files_are_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="does not hold records"):
        RecordWriter(path)
    assert path.read_bytes() == content
    if content.strip():
        with pytest.raises(RecordError, match="does not hold records"):
            read_records(path)


def test_last_line_of_another_format_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    content = RECORD.to_json() + "\nremember the milk"
    path.write_text(content)
    with pytest.raises(RecordError, match="does not hold records"):
        RecordWriter(path)
    assert path.read_text() == content
    with pytest.raises(RecordError, match="line 2"):
        read_records(path)


def test_broken_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(RECORD.to_json() + "\n" + ERROR.to_json()[:50] + "\n" + RECORD.to_json() + "\n")
    with pytest.raises(RecordError, match="line 2"):
        read_records(path)


def test_missing_file_and_unwritable_path_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot read"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(RecordError, match="cannot write") as caught:
        RecordWriter(tmp_path / "no" / "folder.jsonl")
    assert "mkdir" in str(caught.value.hint)
    with pytest.raises(RecordError):
        RecordWriter(tmp_path)


def test_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):  # root ignores file modes, but cannot create files in /proc
        locked = Path("/proc")
    with pytest.raises(RecordError, match="cannot write"):
        RecordWriter(locked / "r.jsonl")
    with pytest.raises(RecordError, match="cannot write"):
        write_text_atomic(locked / "a.txt", "text")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_an_error() -> None:
    with pytest.raises(RecordError, match="No space left"):
        write_text_atomic(Path("/dev/full"), "text")


FULL_IN_THE_MIDDLE = """
import resource, signal, sys
from pathlib import Path
from smolvideo.errors import RecordError
from smolvideo.records import AnswerRecord, RecordWriter, read_records, write_text_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
writer = RecordWriter(folder / "r.jsonl")
writer.write(AnswerRecord("q", (), text="short"))
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for write in (
    lambda: writer.write(AnswerRecord("q", (), text="long" * 1000)),
    lambda: write_text_atomic(folder / "out.txt", "new" * 1000, overwrite=True),
):
    try:
        write()
    except RecordError as error:
        print(error)
print(len(read_records(folder / "r.jsonl")), len((folder / "r.jsonl").read_bytes().splitlines()))
"""


def test_disk_that_fills_up_within_a_line_leaves_whole_records(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", FULL_IN_THE_MIDDLE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("cannot write")
    assert lines[1].startswith("cannot write")
    assert lines[2] == "1 1"
    assert (tmp_path / "out.txt").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.txt", "r.jsonl"]


def test_content_hash_of_files_and_folders(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert content_hash(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "1.png").write_bytes(b"one")
    (folder / "2.png").write_bytes(b"two")
    before = content_hash(folder)
    (folder / ".DS_Store").write_bytes(b"noise")
    assert content_hash(folder) == before
    (folder / "1.png").rename(folder / "3.png")
    assert content_hash(folder) != before
    with pytest.raises(RecordError, match="cannot read"):
        content_hash(tmp_path / "none")


def test_existing_output_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text_atomic(path, "one\n")
    with pytest.raises(RecordError, match="exists already") as caught:
        write_text_atomic(path, "two")
    assert caught.value.hint == "replace it with `--overwrite`"
    assert path.read_bytes() == b"one\n"
    write_text_atomic(path, "zwei 二\r\n", overwrite=True)
    assert path.read_bytes() == "zwei 二\r\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_output_keeps_symlinks_and_file_modes(tmp_path: Path) -> None:
    real = tmp_path / "real.txt"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    write_text_atomic(link, "new", overwrite=True)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


def test_output_to_a_device_or_a_folder(tmp_path: Path) -> None:
    write_text_atomic(Path(os.devnull), "gone")
    assert not Path(os.devnull).is_file()
    with pytest.raises(RecordError, match="is a folder"):
        write_text_atomic(tmp_path, "text", overwrite=True)
    with pytest.raises(RecordError, match="cannot write"):
        write_text_atomic(tmp_path / "no" / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []
