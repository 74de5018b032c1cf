"""JSON Schemas of ``smolvideo/schemas`` match real records, and ``docs/records.md`` is generated
from them.

``SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/test_record_schemas.py`` rewrites types and tables.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from support import record_schemas as schemas
from support.project import ROOT

from smolvideo.cli.main import cli

SAMPLES = ROOT / "samples"
CIRCLE = SAMPLES / "circle_right.mp4"
FEW = ("--max-frames", "6", "--device", "cpu")
MENDED_BY = "SMOLVIDEO_UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/test_record_schemas.py"
HEAD = "<!-- generated from smolvideo/schemas: {} -->\n".format(MENDED_BY.partition(" ")[2])


def run(*words: str | Path, code: int = 0, stdin: str = "") -> str:
    done = CliRunner().invoke(cli, [str(word) for word in words], input=stdin)
    assert done.exit_code == code, done.stderr
    return done.stdout


def lines(name: str, text: str) -> list[dict[str, Any]]:
    return [schemas.validate_line(name, line) for line in text.splitlines()]


@pytest.mark.parametrize("name", schemas.names())
def test_schema_types_equal_the_dataclasses(name: str) -> None:
    Draft202012Validator.check_schema(schemas.read(name))
    expected = schemas.dump(schemas.generated(name))
    path = schemas.FOLDER / f"{name}.json"
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        path.write_text(expected, encoding="utf-8")
    assert path.read_text("utf-8") == expected, f"mend it with\n{MENDED_BY}"


@pytest.mark.parametrize("name", schemas.names())
def test_every_key_has_a_description_and_unknown_keys_are_invalid(name: str) -> None:
    for path, schema in schemas.objects(schemas.read(name)):
        if "properties" not in schema:
            assert isinstance(schema["additionalProperties"], dict), path
            continue
        if "oneOf" in path:
            continue
        assert schema["additionalProperties"] is False, path
        for key, content in schema["properties"].items():
            assert content["description"].endswith("."), f"describe {path}.{key} in {name}.json"
            for suffix, unit in schemas.UNITS.items():
                assert not key.endswith(suffix) or content["unit"] == unit, f"{path}.{key}"


def test_shared_definitions_are_equal_in_all_schemas() -> None:
    found: dict[str, Any] = {}
    for name in schemas.names():
        for definition, content in schemas.read(name).get("$defs", {}).items():
            assert found.setdefault(definition, content) == content, f"{definition} of {name}"


def test_records_page_is_generated_from_the_schemas() -> None:
    assert sorted(schemas.ORDER) == schemas.names(), "name it in ORDER"
    text = schemas.PAGE.read_text("utf-8")
    start = text.index(HEAD) + len(HEAD)
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        schemas.PAGE.write_text(text[:start] + "\n" + schemas.tables(), encoding="utf-8")
        text = schemas.PAGE.read_text("utf-8")
    assert text[start:] == "\n" + schemas.tables(), f"mend it with\n{MENDED_BY}"


def test_records_of_answers_errors_and_conversations_are_valid(tmp_path: Path) -> None:
    saved, talk = tmp_path / "answers.jsonl", tmp_path / "talk.json"
    sampled = ("--temperature", "1", "--start", "20%", "--end", "3")
    shown = run("ask", CIRCLE, "What moves?", *FEW, *sampled, "--json", "--save", saved)
    schemas.validate_line("answer", shown)
    run("ask", SAMPLES / "sizes.png", "What?", *FEW, "--save", saved, code=3)
    asked = ["What moves?", "x " * 3000, "/zoom 0:01 0:03 Which way?", "/frames 4", "/edit"]
    asked += ["What color?", f"/save {talk}"]
    said = run("chat", CIRCLE, *FEW, "--jsonl", stdin="\n".join(asked), code=6)
    answers = lines("answer", said) + lines("answer", saved.read_text("utf-8"))
    assert {answer["error"] is None for answer in answers} == {True, False}
    schemas.validate("conversation", json.loads(talk.read_text("utf-8")))
    journals = "".join(path.read_text("utf-8") for path in tmp_path.rglob("journal.jsonl"))
    keys = {key for event in lines("conversation-log", journals) for key in event}
    assert keys == {"session", "created", "settings", "look", "turn", "taken_back"}


def test_records_of_summaries_are_valid(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(300))
    videos = [CIRCLE, SAMPLES / "three_shots.mp4", broken]
    options = ("--window", "4", "--out", tmp_path / "out", "--format", "json")
    run("summarise", *videos, *FEW, *options, code=6)
    records = lines("summary", (tmp_path / "out" / "summaries.jsonl").read_text("utf-8"))
    assert len(records) == 3
    assert any(record["notes"] for record in records)
    for path in (tmp_path / "out").glob("*.json"):
        schemas.validate("summary", json.loads(path.read_text("utf-8")))


def test_records_of_eval_runs_are_valid(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    item = {"question": "What moves?", "options": ["a purple circle", "a dog"], "answer_index": 0}
    item["groups"] = {"category": "motion"}
    rows = [{"id": str(n), "video": video, **item} for n, video in enumerate((CIRCLE.name, "no"))]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, more in zip(folders, (["--control", "shuffled-options"], []), strict=True):
        scored = ["--scoring", "options"] if more == [] else more
        words = ["eval", questions, "--videos", SAMPLES, "--run", folder, *FEW, *scored, "--json"]
        schemas.validate_line("eval-report", run(*words, code=6))
        schemas.validate("eval-run", json.loads((folder / "run.json").read_text("utf-8")))
        for file, name in (("items", "item"), ("answers", "answer"), ("videos", "video")):
            assert lines(f"eval-{name}", (folder / f"{file}.jsonl").read_text("utf-8"))
    schemas.validate_line("eval-comparison", run("eval", "compare", *folders, "--json"))


def test_json_of_listings_is_valid(tmp_path: Path) -> None:
    files = ("--output", tmp_path / "frames")
    written = run("frames", CIRCLE, "--max-frames", "3", *files, "--json")
    assert len(schemas.validate_line("frames", written)["files"]) == 3
    schemas.validate_line("models", run("models", "--json"))
    schemas.validate_line("model", run("models", "info", "nano", "--json"))
    index = tmp_path / "index.sqlite"
    run("index", CIRCLE, "--index", index, "--max-frames", "2", "--model", "nano")
    schemas.validate_line("index", run("index", "status", "--index", index, "--json"))
    schemas.validate_line("find", run("find", "purple circle", "--index", index, "--json"))
    schemas.validate_line("cache", run("cache", "info", "--json"))
    schemas.validate_line("cache-cleared", run("cache", "clear", "--json"))
    schemas.validate_line("cache-cleared", run("cache", "clear", "--features", "--json"))


def test_committed_bench_and_training_files_are_valid() -> None:
    for path in (ROOT / ".github" / "bench").glob("*.json"):
        # Of programs of the tests.
        programs = (
            "weight-formats",
            "served-load",
            "find-quality",
            "index-cost",
            "index-kill",
            "why-quality",
            "long-recordings",
        )
        if path.stem.startswith(programs):
            continue
        name = "exam-report" if path.stem.startswith("world") else "bench"
        name = "bench-picture" if path.stem.endswith("qwen2-vl") else name
        schemas.validate(name, json.loads(path.read_text("utf-8")))
    trained = ROOT / "smolvideo" / "nano" / "training.json"
    schemas.validate("training", json.loads(trained.read_text("utf-8")))


def test_key_without_description_is_an_error() -> None:
    content = {"video": "a", "url": "https://a.invalid", "error": None}
    schemas.validate("eval-download", content)
    with pytest.raises(AssertionError, match="'seconds' was unexpected"):
        schemas.validate("eval-download", content | {"seconds": 3})
