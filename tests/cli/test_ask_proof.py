"""``--why``, ``/why`` and ``--check``: in records, chat and HTML."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support import record_schemas
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.records import read_records
from smolvideo.summaries.blind_check import is_sampled

SHOTS = ROOT / "samples" / "three_shots.mp4"
CIRCLE = ROOT / "samples" / "circle_right.mp4"
FEW = ("--max-frames", "12", "--device", "cpu")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path / "kept"))


def run(*words: str | Path, code: int = 0, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words], input=stdin)
    assert done.exit_code == code, done.stderr
    return done


def test_why_is_in_json_and_records_and_leaves_stdout_to_the_answer(tmp_path: Path) -> None:
    saved = tmp_path / "a.jsonl"
    question = "What colour is the star?"
    done = run("ask", *FEW, SHOTS, question, "--why", "--save", saved)
    assert done.stdout == "blue\n"
    (record,) = read_records(saved)
    assert record.evidence is not None
    assert f"note: why: {record.evidence.text}" in done.stderr
    line = record_schemas.validate_line("answer", saved.read_text("utf-8"))
    assert line["evidence"]["verdict"] == "frames"
    assert {frame["source"] for frame in line["evidence"]["frames"]} == {0}
    again = run("ask", "--continue", question, "--why", "--json")
    assert json.loads(again.stdout)["evidence"]["frames"]


def test_why_of_a_choice_uses_its_probability() -> None:
    words = ("--choices", "red,green,blue", SHOTS, "What colour is the star?", "--why", "--json")
    record = json.loads(run("ask", *FEW, *words).stdout)
    assert record["evidence"]["score"] == pytest.approx(
        record["choices"]["probabilities"]["blue"], abs=1e-3
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "transformers"], "transformers"),
        (["--dry-run"], "--dry-run"),
        (["--server", "http://127.0.0.1:9"], "--server"),
        (["--schema", "colour red|blue"], "--schema"),
    ],
)
def test_why_that_cannot_be_honoured_is_a_usage_error(options: list[str], said: str) -> None:
    done = run("ask", CIRCLE, "What moves?", "--why", *options, code=2)
    assert said in done.stderr


def test_chat_explains_its_last_answer_and_keeps_it_in_the_transcript(tmp_path: Path) -> None:
    page, text = tmp_path / "talk.html", tmp_path / "talk.json"
    lines = ["/why", "What colour is the star?", "/why", f"/save {page}", f"/save {text}"]
    lines += ["/frames 6", "/why"]
    done = run("chat", *FEW, SHOTS, "--plain", stdin="\n".join(lines), code=6)
    assert "there is no answer to explain yet" in done.stderr
    assert "why: " in done.stderr
    assert "sampled again" in done.stderr
    (turn,) = json.loads(text.read_text("utf-8"))["turns"]
    record_schemas.validate("conversation", json.loads(text.read_text("utf-8")))
    html = page.read_text("utf-8")
    for frame in turn["evidence"]["frames"]:
        assert f"({frame['kept']:.0%})" in html
    (journal,) = (tmp_path / "kept").rglob("journal.jsonl")
    for line in journal.read_text("utf-8").splitlines():
        record_schemas.validate_line("conversation-log", line)


def test_check_is_in_json_and_says_whether_the_answer_stands() -> None:
    done = run("ask", *FEW, SHOTS, "What colour is the star?", "--check", "--json")
    check = record_schemas.validate_line("answer", done.stdout)["check"]
    assert (check["verdict"], check["shifted"]) == ("stands", "blue")
    assert f"check: {check['text']}" in done.stderr
    words = ("--choices", "red,green,blue", SHOTS, "What colour is the star?", "--check")
    done = run("ask", *FEW, *words, "--json")
    assert json.loads(done.stdout)["check"]["blind"] in ("red", "green", "blue")


def test_quiet_leaves_what_was_asked_for(tmp_path: Path) -> None:
    words = ("ask", *FEW, SHOTS, "What colour is the star?", "--check", "--why", "--quiet")
    notes = run(*words).stderr.splitlines()
    assert [note.split()[1] for note in notes] == ["why:", "check:"]


def test_summarise_checks_a_share_of_the_videos(tmp_path: Path) -> None:
    options = (*FEW[2:], "--jsonl", "-", "--max-frames", "6")
    done = run("summarise", CIRCLE, SHOTS, "--check", "1", "--window", "3", *options)
    for line in done.stdout.splitlines():
        check = record_schemas.validate_line("summary", line)["check"]
        assert (check["verdict"], check["shuffled"]) == ("stands", None)
    assert json.loads(run("summarise", CIRCLE, *options).stdout)["check"] is None
    assert "0" in run("summarise", CIRCLE, "--check", "1.5", code=2).stderr


def test_sample_of_checked_videos_has_its_share() -> None:
    keys = [f"video {number}" for number in range(2000)]
    assert 150 < sum(is_sampled(key, 0.1) for key in keys) < 250
    assert all(is_sampled(key, 1.0) for key in keys)
    assert not any(is_sampled(key, 0.0) for key in keys)
