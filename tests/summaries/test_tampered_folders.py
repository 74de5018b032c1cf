"""A tampered summaries folder makes no run read or write outside of it."""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.file_names import (
    fit_name,
    is_output_name,
    is_output_of,
    names_of_outputs,
)
from smolvideo.records import MAX_LINE_BYTES
from smolvideo.summaries.formats import TEXT_FORMATTERS
from smolvideo.summaries.record_log import SummaryRecord

SAMPLES = ROOT / "samples"
FORMATS = "txt,md,json,srt,vtt,chapters,html"


def summarise(home: Path, *more: str) -> Result:
    words = ["summarise", str(home / "a.mp4"), str(home / "b.mp4"), "--out", str(home / "out")]
    return CliRunner().invoke(cli, [*words, "--format", FORMATS, *more])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two videos and their summaries."""
    home = tmp_path_factory.mktemp("home")
    shutil.copyfile(SAMPLES / "circle_right.mp4", home / "a.mp4")
    shutil.copyfile(SAMPLES / "number_42.mp4", home / "b.mp4")
    assert summarise(home).exit_code == 0
    return home


@pytest.fixture
def home(done: Path) -> Path:
    """Return a fresh copy of ``done`` with files next to it that no run may touch."""
    for path in done.iterdir():
        if path.name not in ("a.mp4", "b.mp4", "kept"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if not (done / "kept").exists():
        raise AssertionError
    shutil.copytree(done / "kept", done / "out")
    (done / "secret.summary.txt").write_text("secret")
    (done / "elsewhere").mkdir()
    return done


@pytest.fixture(scope="module", autouse=True)
def _kept(done: Path) -> None:
    shutil.copytree(done / "out", done / "kept")


def change(home: Path, edit: Callable[[dict[str, Any]], object], *, line: int = 1) -> bytes:
    """Edit a record and return the new bytes of the file."""
    file = home / "out" / "summaries.jsonl"
    lines = file.read_text().splitlines()
    content = json.loads(lines[line - 1])
    edit(content)
    lines[line - 1] = json.dumps(content)
    file.write_text("\n".join(lines) + "\n")
    return file.read_bytes()


def outside(home: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and "out" not in path.relative_to(home).parts
    }


def refused(home: Path, before: bytes, line: int = 1) -> str:
    """Run over the tampered folder; return its one error line. Nothing is lost or written."""
    around, inside = outside(home), sorted((home / "out").rglob("*.summary.*"))
    result = summarise(home)
    assert result.exit_code == 5, result.output
    error, hint = result.stderr.splitlines()
    assert f"line {line}" in error or "line 1:" in error
    assert hint.startswith("hint: ")
    assert (home / "out" / "summaries.jsonl").read_bytes() == before
    assert outside(home) == around
    assert sorted((home / "out").rglob("*.summary.*")) == inside
    return error


NAMES = [
    "../secret", "sub/../../secret", "..", ".", "", "/", "./a", "a/", "a//b", "a\0b", "a\nb",
    "..\\secret", "C:\\x", "\\\\host\\share\\x", "CON", "sub/NUL.x", "com1", "LPT\xb9",
    "CONIN$", "aux .t",
    "a" * 300, "a. ", "\u202ea", "\x1b[31m", "/tmp/../etc/x", "a:stream", "?", "x" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_output_name_outside_the_folder_is_refused(home: Path, name: str) -> None:
    assert not is_output_name(name)
    for line in (1, 2):
        before = change(home, lambda record: record.update(output=name), line=line)
        assert "`output`" in refused(home, before, line)


def swap(records: list[dict[str, Any]]) -> None:
    first, second = records
    first["output"], second["output"] = second["output"], first["output"]


OWNERS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], int]] = {
    "swapped": (swap, 1),
    "another's": (lambda records: records[1].update(output="a"), 2),
    "another's in capitals": (lambda records: records[1].update(output="A"), 2),
    "a folder that is none of the video's": (lambda records: records[0].update(output="x/a"), 1),
    "a hash of another path": (lambda records: records[0].update(output="a-0123456789"), 1),
    "two of one name": (lambda records: records[1].update(path="/elsewhere/a.mp4", output="a"), 2),
}


@pytest.mark.parametrize("kind", OWNERS)
def test_output_name_of_another_video_is_refused(home: Path, kind: str) -> None:
    edit, line = OWNERS[kind]
    file = home / "out" / "summaries.jsonl"
    records = [json.loads(one) for one in file.read_text().splitlines()]
    edit(records)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    before = file.read_bytes()
    error = refused(home, before, line)
    assert "`output` is" in error
    assert f"line {line}" in error


@settings(max_examples=30)
@given(
    st.lists(st.text(min_size=1, max_size=20).filter(lambda part: "/" not in part), max_size=3),
    st.text(min_size=1, max_size=300).filter(lambda name: "/" not in name),
    st.integers(0, 60),
    st.sampled_from(["NFC", "NFD"]),
)
def test_generated_output_name_is_accepted_for_its_video(
    parents: list[str], name: str, number: int, form: Any
) -> None:
    path = "/".join(["", "videos", *parents, name])
    names = list(names_of_outputs(path, name, is_address=False))
    given = "/".join([*map(fit_name, parents), names[number % len(names)]])
    assert is_output_of(given, path, path)
    moved = unicodedata.normalize(form, given)
    assert is_output_of(moved, path, path), "kept on a system that stores accents otherwise"
    assert not is_output_of(f"elsewhere/{given}", path, path)
    title = fit_name(name)
    assert is_output_of(title, "https://e.org/v", name)


def test_absolute_output_name_is_refused(home: Path) -> None:
    change(home, lambda record: record.update(output=str(home / "secret")))
    around = outside(home)
    result = summarise(home)
    assert result.exit_code == 0, result.output
    assert outside(home) == around


def test_beside_option_refuses_names_outside_the_video_folder(home: Path) -> None:
    words = ["summarise", str(home / "a.mp4"), "--beside", "--jsonl", str(home / "out" / "x.jsonl")]
    assert CliRunner().invoke(cli, words).exit_code == 0
    file = home / "out" / "x.jsonl"
    record = json.loads(file.read_text())
    assert record["output"] == str(home / "a")
    (home / "elsewhere" / "a.summary.txt").write_text("secret")
    file.write_text(json.dumps(record | {"output": str(home / "elsewhere" / "a")}) + "\n")
    (home / "a.mp4").touch()
    result = CliRunner().invoke(cli, [*words, "--overwrite", "--style", "detailed"])
    assert result.exit_code == 0, result.output
    assert (home / "elsewhere" / "a.summary.txt").read_text() == "secret"


def chapter(**values: Any) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        record["chapters"] = [record["chapters"][0] | values]

    return edit


def note(**values: Any) -> Callable[[dict[str, Any]], None]:
    whole = {"start_seconds": 0.0, "end_seconds": 1.0, "text": "x", "frame_times": []}
    return lambda record: record.update(notes=[whole | values])


VALUES: dict[str, Callable[[dict[str, Any]], object]] = {
    "nan": chapter(start_seconds=float("nan")),
    "infinite": chapter(end_seconds=float("inf")),
    "negative": chapter(start_seconds=-1.0),
    "backwards": chapter(start_seconds=5.0, end_seconds=1.0),
    "huge": chapter(end_seconds=1e300),
    "integer": chapter(end_seconds=10**400),
    "note": note(start_seconds=float("nan")),
    "frame": note(frame_times=[1e30]),
    "text": note(text=7),
    "title": chapter(title=None),
    "duration": lambda record: record.update(duration_seconds=-3),
    "endless": lambda record: record.update(duration_seconds=float("inf")),
    "window": lambda record: record.update(window_seconds=0),
    "frames": lambda record: record.update(frames=-1),
    "many frames": lambda record: record.update(frames=1.5),
    "tokens": lambda record: record.update(tokens={"prompt": "many"}),
    "code": lambda record: record.update(exit_code=999),
    "source": lambda record: record.update(source="a.mp4"),
    "no source": lambda record: record.pop("source"),
    "path": lambda record: record.update(path=7),
    "chapters": lambda record: record.update(chapters={"a": 1}),
    "stamp": lambda record: record.update(stamp=[1, "2"]),
    "both": lambda record: record.update(error="x"),
    "neither": lambda record: record.update(text=None),
    "script": lambda record: record["source"].update(url="javascript:alert(1)"),
    "file": lambda record: record["source"].update(url="file:///etc/passwd"),
    "another's download": lambda record: record["source"].update(url="http://e.org/private.mp4"),
    "settings": lambda record: record.update(settings=[]),
    "seconds": lambda record: record.update(seconds={"answer": -3.0}),
    "size": lambda record: record.update(stamp=[10**30, 1, 1]),
    "truth": lambda record: record.update(frames=True),
}


@pytest.mark.parametrize("kind", VALUES)
def test_impossible_values_are_refused(home: Path, kind: str) -> None:
    before = change(home, VALUES[kind], line=2)
    assert "Traceback" not in refused(home, before, line=2)


@pytest.mark.parametrize(
    "line", [b"[" * 3_000_000, b'{"record": "smolvideo.summary/1", "path": ', b"\xff" * 99]
)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_lines_that_are_not_records_are_refused(home: Path, line: bytes, number: int) -> None:
    file = home / "out" / "summaries.jsonl"
    lines = file.read_bytes().splitlines()
    lines.insert(number - 1, line)
    file.write_bytes(b"\n".join(lines) + b"\n")
    refused(home, file.read_bytes(), number)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("number", [1, 3])
def test_line_of_a_hundred_megabytes_is_refused(home: Path, number: int, ended: bool) -> None:
    file = home / "out" / "summaries.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    with file.open("wb") as out:  # a sparse file takes no disk space
        out.writelines(lines[: number - 1])
        out.write(b'{"record": "smolvideo.summary/1", "text": "')
        out.seek(MAX_LINE_BYTES + 40_000_000, os.SEEK_CUR)
        out.write(b"\n" if ended else b"x")
        out.writelines(lines[number - 1 :])
    size = file.stat().st_size
    result = summarise(home)
    assert result.exit_code == 5, result.output
    assert "longer than" in result.stderr
    assert file.stat().st_size == size


LINKS = {
    "file": lambda out, away: (out / "a.summary.txt").symlink_to(away / "made.txt"),
    "existing": lambda out, away: (out / "a.summary.txt").symlink_to(away / "there.txt"),
    "page": lambda out, away: (out / "a.summary.html").symlink_to(away / "made.html"),
}


@pytest.mark.parametrize(
    ("kind", "overwrite"), [("file", True), ("existing", False), ("page", True)]
)
def test_symlinks_in_place_of_outputs_are_not_followed(
    home: Path, kind: str, overwrite: bool
) -> None:
    out, away = home / "out", home / "elsewhere"
    (away / "there.txt").write_text("secret")
    for name in ("a.summary.txt", "a.summary.html"):
        (out / name).unlink()
    if not overwrite:  # a fresh run uses another name
        (out / "summaries.jsonl").unlink()
    LINKS[kind](out, away)
    result = summarise(home, *["--overwrite"] * overwrite)
    assert result.exit_code == 0, result.output
    assert [path.name for path in away.iterdir()] == ["there.txt"]
    assert (away / "there.txt").read_text() == "secret"


def test_symlinks_in_place_of_folders_and_records_are_refused(home: Path) -> None:
    out, away = home / "out", home / "elsewhere"
    (home / "in" / "sub").mkdir(parents=True)
    shutil.copyfile(home / "a.mp4", home / "in" / "sub" / "c.mp4")
    (out / "sub").symlink_to(away, target_is_directory=True)
    words = ["summarise", str(home / "in"), "--out", str(out)]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 5, result.output
    assert "leads out of the folder" in result.stderr
    assert list(away.iterdir()) == []
    for name in ("summaries.jsonl", ".summaries.jsonl.lock"):
        (out / name).unlink()
        (out / name).symlink_to(away / name)
        result = summarise(home)
        assert result.exit_code == 5, result.output
        assert list(away.iterdir()) == []
        (out / name).unlink()


@given(st.text(max_size=300))
def test_generated_output_name_is_valid(name: str) -> None:
    fit = fit_name(name)
    assert is_output_name(fit)
    assert is_output_name(f"{fit}/{fit}-{'a' * 63}")
    assert fit_name(fit) == fit


def test_texts_of_a_tampered_record_are_escaped(home: Path) -> None:
    evil = (
        "x --> y\n\n00:00:00,000 --> 00:00:09,000\r\n\x1b[2J\u202e<script>alert(1)</script>\n"
        "[CHAPTER]\nEND=1"
    )
    file = home / "out" / "summaries.jsonl"
    record = SummaryRecord.from_json(file.read_bytes().splitlines()[0])
    content = json.loads(record.to_json())
    part = {"start_seconds": 0.0, "end_seconds": 1.0, "text": evil, "title": evil}
    content |= {"chapters": [part, part], "text": evil, "model": evil}
    changed = SummaryRecord.from_json(json.dumps(content))
    for ending, form in TEXT_FORMATTERS.items():
        text = form(changed)
        assert "\x1b" not in text, ending
        assert "\u202e" not in text, ending
    assert TEXT_FORMATTERS[".summary.srt"](changed).count(" --> ") == 2
    assert TEXT_FORMATTERS[".summary.vtt"](changed).count(" --> ") == 2
    assert TEXT_FORMATTERS[".summary.ffmetadata"](changed).count("[CHAPTER]\n") == 2
