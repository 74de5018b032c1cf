"""Record log of summaries: file lock, truncation of partial lines, one line per video at the
end.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smolvideo.errors import RecordError
from smolvideo.file_names import fit_name
from smolvideo.records import RecordWriter, SourceRecord
from smolvideo.summaries.record_log import Chapter, Note, RecordLog, SummaryRecord


def record(path: str, text: str | None = "A dog.", **fields: object) -> SummaryRecord:
    made = SummaryRecord(
        path=path,
        source=SourceRecord(path, Path(path).name, "video", sha256=f"hash of {path}"),
        style="brief",
        text=text,
        error=None if text else "it is broken",
        exit_code=None if text else 3,
        chapters=(Chapter(0, 5, "A dog", "A dog."),),
        notes=(Note(0, 5, "A dog.", True, (0.0, 2.5)),),
        settings_key="brief",
        stamp=(10, 20, 30),
        output=None if text is None else fit_name(Path(path).stem),
        created="2026-01-02T03:04:05+00:00",
    )
    return replace(made, **fields)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out" / "summaries.jsonl"


def test_records_are_read_back_unchanged(file: Path) -> None:
    hostile = record("/v/\udcff \u2028\n.mp4", text="\x1b \u2028 line\nbreak")
    with RecordLog(file) as journal:
        journal.write(record("/v/a.mp4"))
        journal.write(hostile)
        assert journal.record("/v/a.mp4") == record("/v/a.mp4")
    with RecordLog(file) as journal:
        assert journal.record(hostile.path) == hostile
        assert [found.path for found in journal.records()] == ["/v/a.mp4", hostile.path]
    assert len(file.read_bytes().splitlines()) == 2


def test_partial_last_line_is_dropped(file: Path) -> None:
    with RecordLog(file) as journal:
        journal.write(record("/v/a.mp4"))
        journal.write(record("/v/b.mp4"))
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    # Only the line break missing: the record is complete.
    for end in {*range(first, first + 40), *range(first, len(whole) - 1, 37)}:
        file.write_bytes(whole[:end])
        with RecordLog(file) as journal:
            assert journal.entry("/v/a.mp4") is not None
            assert journal.entry("/v/b.mp4") is None
            journal.write(record("/v/b.mp4"))
        assert file.read_bytes() == whole


def test_last_record_of_a_video_replaces_earlier_ones(file: Path) -> None:
    with RecordLog(file) as journal:
        journal.write(record("/v/a.mp4", "old"))
        journal.write(record("/v/b.mp4"))
        journal.write(record("/v/a.mp4", "new"))
    with RecordLog(file) as journal:
        assert journal.record("/v/a.mp4").text == "new"
        journal.compact()
        assert journal.record("/v/a.mp4").text == "new"
        journal.write(record("/v/c.mp4"))
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [(line["path"], line["text"]) for line in lines] == [
        ("/v/b.mp4", "A dog."),
        ("/v/a.mp4", "new"),
        ("/v/c.mp4", "A dog."),
    ]


def test_lookup_by_content_hash_and_output_name(file: Path) -> None:
    with RecordLog(file) as journal:
        journal.write(record("/v/a.mp4"))
        assert journal.find_duplicate("hash of /v/a.mp4", "brief") == record("/v/a.mp4")
        assert journal.find_duplicate("hash of /v/a.mp4", "detailed") is None
        assert journal.owner_of_output("A") == "/v/a.mp4"
        journal.write(record("/v/a.mp4", None))
        assert journal.find_duplicate("hash of /v/a.mp4", "brief") is None
        assert journal.owner_of_output("a") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes here")
def test_record_log_must_be_a_regular_file(file: Path) -> None:
    file.parent.mkdir()
    os.mkfifo(file)
    for place in (file, file.parent, Path(os.devnull)):
        with pytest.raises(RecordError, match="not a file") as raised:
            RecordLog(place)
        assert "--jsonl -" in str(raised.value.hint)
    assert [found.name for found in file.parent.iterdir()] == [file.name], "no lock is left"


def test_record_log_is_locked_by_one_process(file: Path) -> None:
    with RecordLog(file):
        with pytest.raises(RecordError, match="another smolvideo") as raised:
            RecordLog(file)
        assert "--out" in str(raised.value.hint)
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from pathlib import Path; from smolvideo.summaries.record_log import "
                "RecordLog; RecordLog(Path(sys.argv[1]))",
                str(file),
            ],
            capture_output=True,
            check=False,
        )
        assert b"another smolvideo is at work" in other.stderr
    RecordLog(file).close()


def test_other_file_is_refused_and_unchanged(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("my notes\n")
    with pytest.raises(RecordError, match="does not hold records"):
        RecordLog(file)
    assert file.read_text() == "my notes\n"
    other = file.with_name("answers.jsonl")
    with RecordWriter(other) as writer:  # answers are no summaries
        from smolvideo.records import AnswerRecord

        writer.write(AnswerRecord("q", (), text="a"))
    with pytest.raises(RecordError, match="does not hold records"):
        RecordLog(other)


def test_broken_line_in_the_middle_is_an_error_with_its_number(file: Path) -> None:
    with RecordLog(file) as journal:
        journal.write(record("/v/a.mp4"))
        journal.write(record("/v/b.mp4"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + b'{"record": "smolvideo.summary/1", "oops\n' + lines[1])
    with pytest.raises(RecordError, match=r"line 2, is not a record"):
        RecordLog(file)


def test_log_without_a_path_leaves_no_file() -> None:
    with RecordLog(None) as journal:
        journal.write(record("/v/a.mp4"))
        path = journal.path
        assert journal.record("/v/a.mp4").text == "A dog."
    assert not path.exists()


@pytest.mark.parametrize(
    ("exit_code", "url", "final"),
    [(3, None, True), (4, None, False), (1, None, False), (3, "https://a.b/c", False)],
)
def test_temporary_errors_are_retried(
    file: Path, exit_code: int, url: str | None, final: bool
) -> None:
    """A damaged local file stays damaged; out of memory and server errors may pass."""
    failed = record("/v/a.mp4", text=None, exit_code=exit_code)
    failed = replace(failed, source=replace(failed.source, url=url))
    with RecordLog(file) as journal:
        journal.write(failed)
        entry = journal.entry("/v/a.mp4")
        assert entry is not None
        assert (entry.failed, entry.is_final) == (True, final)
        journal.write(record("/v/a.mp4"))
        entry = journal.entry("/v/a.mp4")
        assert entry is not None
        assert (entry.failed, entry.is_final) == (False, True)
