"""Composed and decomposed file names: each is found, and never mistaken for another file."""

import unicodedata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.cli.flags import FilePath
from smolvideo.errors import SourceError
from smolvideo.file_names import existing_path, normal_form, same_name
from smolvideo.pipeline.subtitles import read_cues
from smolvideo.records import SourceRecord
from smolvideo.source import read_source_list, resolve_source
from smolvideo.source.local import matching_paths
from smolvideo.summaries.record_log import RecordLog, SummaryRecord
from smolvideo.summaries.worklist import list_items

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Zoë Ångström") for form in ("NFC", "NFD"))
FORMS = [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)]
HEAD = b"\0\0\0\x18ftypmp42"


def write(path: Path, content: bytes = HEAD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@given(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=5))
def test_exact_name_is_preferred_and_ambiguous_names_match_none(
    name: str, others: list[str]
) -> None:
    assert same_name(name, [*others, name]) == name
    found = same_name(name, others)
    alike = {one for one in others if normal_form(one) == normal_form(name)}
    assert found == (name if name in alike else next(iter(alike)) if len(alike) == 1 else None)


@pytest.mark.parametrize(("stored", "typed"), FORMS)
def test_every_part_of_a_path_is_matched(stored: str, typed: str, tmp_path: Path) -> None:
    file = write(tmp_path / stored / "a" / f"{stored}.mp4")
    assert existing_path(tmp_path / typed / "a" / f"{typed}.mp4") == file
    assert existing_path(tmp_path / typed / "new" / typed) == tmp_path / stored / "new" / typed
    both = write(tmp_path / stored / "a" / f"{typed}.mp4")
    assert existing_path(both) == both
    assert existing_path(file) == file
    assert existing_path(tmp_path / "a\0b" / typed) == tmp_path / "a\0b" / typed


@pytest.mark.parametrize(("stored", "typed"), FORMS)
def test_sources_patterns_and_lists_match_either_form(
    stored: str, typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / stored / f"{stored}.mp4")
    folder = tmp_path / typed
    for given_as in (str(folder / f"{typed}.mp4"), (folder / f"{typed}.mp4").as_uri(), str(folder)):
        (source,) = resolve_source(given_as)
        assert source.path == file
    accent = next(char for char in normal_form(typed) if not char.isascii())
    for pattern in (f"{typed}*", f"*{typed[-3:]}.mp4", f"*{accent}*", f"??[{accent}]*.mp4"):
        assert matching_paths(str(folder / pattern)) == [file], pattern
    work = [str(folder), str(folder / f"{typed}.mp4"), str(folder / "*.mp4"), str(file)]
    (item,) = list_items(work)
    assert (item.path, item.relative.as_posix()) == (str(file), f"{stored}.mp4")
    listed = tmp_path / stored / f"{stored}.txt"
    listed.write_text(f"{typed}.mp4\n", encoding="utf-8")
    assert [str(one) for one in read_source_list(listed)] == [str(file)]
    monkeypatch.chdir(tmp_path / stored)
    assert [str(one) for one in read_source_list(listed)] == [f"{typed}.mp4"]
    (source,) = resolve_source(f"{typed}.mp4")
    assert source.path == Path(f"{stored}.mp4")


@pytest.mark.parametrize(("stored", "typed"), FORMS)
def test_file_options_match_either_form(stored: str, typed: str, tmp_path: Path) -> None:
    text = b"1\n00:00:00,000 --> 00:00:01,000\nHello.\n"
    file = write(tmp_path / stored / f"{stored}.srt", text)
    typed_path = tmp_path / typed / f"{typed}.srt"
    (video,) = resolve_source(str(write(tmp_path / "v.mp4")))
    assert [cue.text for cue in read_cues(str(typed_path), video, reader="auto")] == ["Hello."]

    @click.command()
    @click.option("--file", type=FilePath())
    def command(file: Path) -> None:
        click.echo(str(file))

    result = CliRunner().invoke(command, ["--file", str(typed_path)])
    assert result.output == f"{file}\n"


def test_patterns_match_as_in_a_shell(tmp_path: Path) -> None:
    for name in ("a.mp4", ".h.mp4", "[x]/b.mp4", "[x]/c/d.mp4", "x/e.mp4", ".g/f.mp4", "B.MP4"):
        write(tmp_path / name)
    (tmp_path / "x" / "up").symlink_to(tmp_path)

    def found(pattern: str) -> list[str]:
        paths = matching_paths(str(tmp_path / pattern))
        return sorted(path.relative_to(tmp_path).as_posix() for path in paths)

    assert found("*.mp4") == ["a.mp4"]
    assert found(".*.mp4") == [".h.mp4"]
    assert found("[x]/*.mp4") == ["[x]/b.mp4"], "what exists is no pattern"
    assert found("[xy]/*.mp4") == ["x/e.mp4"]
    assert found("**/*.mp4") == ["[x]/b.mp4", "[x]/c/d.mp4", "a.mp4", "x/e.mp4"]
    assert found("x/**") == ["x", "x/e.mp4"]
    assert found("*/c/d.*") == ["[x]/c/d.mp4"]
    assert found("a.mp4/*") == []
    assert found("nowhere/*") == []
    with pytest.raises(SourceError, match="nothing matches"):
        raise list_items([str(tmp_path / "z*")])[0].error or AssertionError


def record(path: Path) -> SummaryRecord:
    source = SourceRecord(path.name, path.name, "video", sha256=path.name.encode().hex())
    return SummaryRecord(str(path), source, "short", text="seen", output=path.name)


@pytest.mark.parametrize(("stored", "typed"), FORMS)
def test_records_are_found_in_either_form(stored: str, typed: str, tmp_path: Path) -> None:
    journal_path = tmp_path / "summaries.jsonl"
    before, now = tmp_path / stored / "a.mp4", tmp_path / typed / "a.mp4"
    with RecordLog(journal_path) as journal:
        journal.write(record(before))
        journal.write(record(tmp_path / "b.mp4"))
    write(now)
    with RecordLog(journal_path) as journal:
        entry = journal.entry(str(now))
        assert entry is not None
        assert journal.record(str(now)).path == str(before)
        journal.write(record(now))
        assert [one.path for one in journal.records()] == [str(tmp_path / "b.mp4"), str(now)]
        journal.compact()
    assert len(journal_path.read_text().splitlines()) == 2
    write(before)
    with RecordLog(journal_path) as journal:
        assert journal.entry(str(now)) is not None
        assert journal.entry(str(before)) is None, "another file in the other spelling"
