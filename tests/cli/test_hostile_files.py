"""Tampered project files: endless nesting, huge numbers, pipes."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from smolvideo.conversation.event_log import LOG_NAME, iter_events, read_event_log
from smolvideo.errors import RecordError, SmolVideoError
from smolvideo.evals.datasets import table_files
from smolvideo.evals.run_folder import RunFolder
from smolvideo.evals.videos import DownloadArchive
from smolvideo.json_types import MAX_DIGITS, parse_json
from smolvideo.records import read_records
from smolvideo.source.download_cache import _ENTRY, _read_entry
from smolvideo.summaries.record_log import RecordLog
from smolvideo.text_input import open_regular, read_regular

DEEP = "[" * 200_000
LONG = "9" * 400
HOSTILE = {
    "deep": DEEP,
    "deep objects": '{"a":' * 200_000,
    "deep in a record": '{"record": "smolvideo.answer/1", "question": ' + DEEP,
    "long number": LONG,
    "long number in an object": '{"video": "a", "error": null, "record": ' + LONG + "}",
    "longer than Python reads": "9" * 5000,
    "not a number": '{"record": NaN, "video": Infinity}',
    "no text": "\udcff",
    "nothing": "",
}


def parse_rows(path: Path) -> object:
    return list(table_files.read_rows(path))


def journal_of_summaries(path: Path) -> object:
    with RecordLog(path) as journal:
        return journal


READS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "conversation": (LOG_NAME, lambda path: read_event_log(path.parent)),
    "list of conversations": (LOG_NAME, lambda path: list(iter_events(path.parent))),
    "run": ("run.json", lambda path: RunFolder.read(path.parent)),
    "archive": ("videos.jsonl", DownloadArchive.open),
    "download": (_ENTRY, lambda path: _read_entry(path.parent)),
    "answers": ("answers.jsonl", read_records),
    "summaries": ("summaries.jsonl", journal_of_summaries),
    "rows": ("rows.jsonl", parse_rows),
    "rows of one object": ("rows.json", parse_rows),
}


def outcome(read: Callable[[Path], object], path: Path) -> tuple[SmolVideoError | None, object]:
    """Return the project's error that reading raises, or the result."""
    try:
        return None, read(path)
    except SmolVideoError as error:
        return error, None


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("what", READS)
def test_hostile_json_is_read_or_a_one_line_error(what: str, content: str, tmp_path: Path) -> None:
    name, read = READS[what]
    path = tmp_path / name
    path.write_bytes(HOSTILE[content].encode("utf-8", "surrogateescape") + b"\n")
    refusal, _ = outcome(read, path)
    if refusal is not None:
        assert "\n" not in str(refusal)
        assert len(str(refusal)) < 1000
        assert refusal.exit_code in (3, 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes here")
@pytest.mark.parametrize("what", [name for name in READS if not name.startswith("rows")])
def test_pipe_in_place_of_a_file_does_not_block(what: str, tmp_path: Path) -> None:
    name, read = READS[what]
    os.mkfifo(tmp_path / name)
    refusal, found = outcome(read, tmp_path / name)
    assert refusal is not None or not found
    assert "\n" not in str(refusal)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes here")
def test_only_regular_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\r\nb\x1a\n")
    assert read_regular(path) == b"a\r\nb\x1a\n"
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            open_regular(other)


def test_numbers_and_nesting_are_bounded() -> None:
    assert parse_json('{"a": [1, -2, 3.5, 1e3]}') == {"a": [1, -2, 3.5, 1000.0]}
    assert parse_json(b'"\xc3\xbc"') == "ü"
    whole = int("9" * MAX_DIGITS)
    assert parse_json(str(whole)) == whole
    assert float(whole) < float("inf")
    for text in (str(whole) + "9", DEEP, "{" * 10, "nothing"):
        with pytest.raises(ValueError, match=r"digits|nested|Expecting"):
            parse_json(text)


def test_folder_without_run_json_is_not_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "items.jsonl").write_text(json.dumps({"id": "1"}) + "\n")
    with pytest.raises(RecordError, match="is no run") as caught:
        RunFolder.read(folder)
    assert caught.value.exit_code == 5
    assert caught.value.hint
