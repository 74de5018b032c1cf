"""Questions, lists and JSON in any Unicode encoding, independent of the locale."""

import ast
import codecs
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source.test_unicode_names import record
from support.project import ROOT

from smolvideo.cli.ask_arguments import _from_stdin
from smolvideo.cli.chat_lines import _lines
from smolvideo.errors import PromptError, SourceError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.source import read_source_list
from smolvideo.summaries import record_log as journals
from smolvideo.summaries.record_log import RecordLog
from smolvideo.text_input import decode_text, decoded_lines

MARKED = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
TEXT = "Was läuft da? 何が動く?"


def encoded(text: str, encoding: str) -> bytes:
    return MARKED[encoding] + text.encode(encoding)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def give(content: bytes) -> None:
        # As on Windows with the code page of western Europe.
        text = io.TextIOWrapper(io.BytesIO(content), encoding="cp1252")
        monkeypatch.setattr(sys, "stdin", text)

    return give


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(sorted(MARKED)))
def test_decode_text_round_trip(text: str, encoding: str) -> None:
    if encoding == "utf-8" and text.startswith(("\ufeff", "\ufffe")):
        return  # the text begins with a byte order mark itself
    assert decode_text(encoded(text, encoding)) == text


@pytest.mark.parametrize("encoding", sorted(MARKED))
def test_questions_and_lists_in_any_encoding(encoding: str, stdin, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stdin(encoded(TEXT + "\r\n", encoding))
    assert _from_stdin().strip() == TEXT
    stdin(encoded(f"/frames\r\n{TEXT}\r\n", encoding))
    assert list(_lines(watched=False)) == ["/frames", TEXT]
    stdin(encoded("ä.mp4\r\n# no\r\nb.mp4\r\n", encoding))
    assert read_source_list(Path("-")) == ["ä.mp4", "b.mp4"]
    file = tmp_path / "list.txt"
    file.write_bytes(encoded("ä.mp4\r\n", encoding))
    (listed,) = read_source_list(file)
    assert str(listed).endswith("ä.mp4")
    row = {"video": "ä.mp4", "question": TEXT, "options": ["x", "y"], "answer_index": 0}
    for name in ("q.jsonl", "q.json"):
        text = json.dumps(row if name == "q.jsonl" else [row], ensure_ascii=False)
        (tmp_path / name).write_bytes(encoded(text, encoding))
        (item,) = load_benchmark("jsonl", tmp_path / name).items
        assert (item.video, item.question) == ("ä.mp4", TEXT)
    csv = 'video,question,options,answer_index\r\nä.mp4,"two\r\nlines","[""x"", ""y""]",0\r\n'
    (tmp_path / "q.csv").write_bytes(encoded(csv, encoding))
    (item,) = load_benchmark("jsonl", tmp_path / "q.csv").items
    assert item.question == "two\r\nlines"


def test_undecodable_input_is_refused(stdin, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    stdin(b"l\xe4uft\n")
    with pytest.raises(PromptError, match="not text"):
        _from_stdin()
    stdin(b"/frames\nl\xe4uft\n")
    lines = _lines(watched=False)
    assert next(lines) == "/frames"
    with pytest.raises(UsageError, match="not text"):
        next(lines)
    stdin(b"l\xe4uft\n")
    with pytest.raises(SourceError, match="not a list"):
        read_source_list(Path("-"))


def test_decoded_lines_are_yielded_as_written() -> None:
    class Growing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise AssertionError("nobody waits for the end")

    lines = decoded_lines(Growing(b"one\ntwo\n"))
    assert [next(lines), next(lines)] == ["one", "two"]


def test_subprocess_texts_have_an_explicit_encoding() -> None:
    """``text=True`` and ``open`` without an encoding use that of the locale."""
    for file in (ROOT / "smolvideo").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                names = {keyword.arg for keyword in node.keywords}
                is_text = names & {"text", "universal_newlines"}
                assert not is_text or "encoding" in names or not _is_process(node), file
                if isinstance(node.func, ast.Attribute) and node.func.attr in _TEXT_CALLS:
                    is_named = len(node.args) >= _TEXT_CALLS[node.func.attr]
                    assert is_named or "encoding" in names, f"{file}: {ast.unparse(node)}"


_TEXT_CALLS = {"read_text": 1, "write_text": 2}
"""Methods of pathlib → number of positional arguments up to the encoding."""


def _is_process(node: ast.Call) -> bool:
    return "subprocess" in ast.unparse(node.func)


def test_record_log_is_closed_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RecordLog(tmp_path / "summaries.jsonl") as journal:
        for _ in range(2):
            journal.write(record(tmp_path / "a.mp4"))
        plain = journals.write_text_atomic
        replaced = []

        def write_output(*arguments: object, **more: object) -> None:
            replaced.append(journal._writer._file.closed)
            plain(*arguments, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(journals, "write_text_atomic", write_output)
        journal.compact()
        assert replaced == [True]
        journal.write(record(tmp_path / "b.mp4"))
        assert [one.path for one in journal.records()] == [
            str(tmp_path / "a.mp4"),
            str(tmp_path / "b.mp4"),
        ]
