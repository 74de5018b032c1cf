"""Notices of an answer: empty, cut, repeating, not UTF-8, or nano on footage that is not synthetic.

Each appears wherever the answer does: Python, JSON, records, stderr, conversations, summaries and
runs of benchmarks.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from support.clipmaker import evenly, write_clip
from support.project import ROOT
from support.toy_checkpoint import write_json

import smolvideo
from smolvideo.cli.main import cli
from smolvideo.engines import GenerationOptions, load_engine
from smolvideo.engines.answer_text import is_loop, notices_on
from smolvideo.engines.generate import GenerationState
from smolvideo.evals.run_folder import RunFolder
from smolvideo.models import open_checkpoint
from smolvideo.pipeline import NANO_NOTICE
from smolvideo.prompt import Message, pack_prompt
from smolvideo.records import read_records

CIRCLE = ROOT / "samples" / "circle_right.mp4"
WHAT = "Describe this video."
AT_ONCE = "the answer is empty: the model ended its turn at once"


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return nano with its first token as the end of turn, so that answers are empty."""
    folder = tmp_path_factory.mktemp("silent") / "nano"
    shutil.copytree(ROOT / "smolvideo" / "nano", folder)
    tokenizer = open_checkpoint("nano").text_tokenizer
    first = [tokenizer.encode(word, add_special_tokens=False).ids[0] for word in (" A", " a")]
    write_json(folder / "generation_config.json", {"eos_token_id": [6, *first]})
    return folder


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video without the mark of the drawn world."""
    return write_clip(tmp_path_factory.mktemp("real") / "real.mp4", evenly(20, 10)).path


def run(*words: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)), input=stdin)


# ------------------------------------------------------------------------------ one answer


def grown(ids: list[int], generation: GenerationOptions = GenerationOptions(max_new_tokens=20)):  # type: ignore[no-untyped-def]  # noqa: B008
    """Return the answer decoded from one-hot logits for ``ids`` and the end of the turn."""
    checkpoint = open_checkpoint("nano")
    prompt = pack_prompt([Message("user", ("Hi",))], checkpoint)
    growing, text = GenerationState(checkpoint, prompt, generation), ""
    for token_id in [*ids, 6]:
        if growing.stop_reason is None:
            logits = torch.zeros(832)
            logits[token_id] = 1
            text += growing.append_token(logits)
    return growing.finish(text)


def ids_of(text: str) -> list[int]:
    ids: list[int] = open_checkpoint("nano").text_tokenizer.encode(text).ids
    return ids


def test_finished_answer_has_no_notice() -> None:
    answer = grown(ids_of(" a purple circle"))
    assert (answer.text, answer.stop_reason, answer.notices) == ("a purple circle", "end", ())


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([], "the model ended its turn at once"),
        (ids_of(" \n "), "the model ended its turn after 4 tokens without text"),
        ([5, 1, 3], "the model ended its turn after 4 tokens without text"),
        ([5] * 30, "20 tokens without text, and `--max-new-tokens` allows no more"),
        (ids_of("STOP here"), "it began with the text to stop at"),
        (ids_of("é")[:1], "the model ended its turn after 2 tokens without text"),
    ],
)
def test_empty_answer_has_a_notice(ids: list[int], said: str) -> None:
    answer = grown(ids, GenerationOptions(max_new_tokens=20, stop=("STOP",)))
    assert (answer.text, answer.stop_reason) == ("", "empty")
    assert answer.notices == (f"the answer is empty: {said}",)


def test_cut_answer_has_a_notice_that_names_repetition() -> None:
    cut = grown(ids_of(" a purple circle moves right, a red square moves left" * 2))
    assert cut.stop_reason == "length"
    assert cut.notices == ("the answer was cut after 20 tokens: `--max-new-tokens` allows more",)
    loop = grown(ids_of(" red, blue," * 9))
    assert loop.notices == (
        "the answer was cut after 20 tokens, repeating itself: `--repetition-penalty 1.1` may help",
    )


def test_answer_with_invalid_utf8_has_a_notice() -> None:
    said = ("the answer holds bytes that are no UTF-8 text: characters are missing",)
    half = ids_of("é")[:1]
    assert grown([*ids_of(" caf"), *half]).notices == said
    assert grown([*half, *ids_of(" caf")]).notices == said
    assert grown(ids_of(" café")).notices == ()


@given(st.lists(st.integers(0, 3), max_size=4), st.lists(st.integers(4, 9), min_size=1, max_size=9))
def test_repeated_token_sequences_are_a_loop(before: list[int], unit: list[int]) -> None:
    assert is_loop(before + unit * 16)
    assert not is_loop(unit * 16 + [0])
    assert not is_loop(unit[:3])


@given(st.lists(st.integers(0, 1), max_size=15))
def test_short_answers_are_not_loops(ids: list[int]) -> None:
    assert not is_loop(ids)
    assert notices_on("no", "stop_string", ids, incomplete=False) == ()


# --------------------------------------------------------------------------- every surface


def test_empty_answer_notice_in_python_on_both_engines(silent: Path) -> None:
    for name in ("native", "transformers"):
        engine = load_engine(str(silent), engine=name, device="cpu")
        answer = smolvideo.ask(engine, CIRCLE, WHAT)
        assert (answer.text, answer.stop_reason, answer.notices) == ("", "empty", (AT_ONCE,))


def test_empty_answer_notice_of_ask(silent: Path, tmp_path: Path) -> None:
    kept = tmp_path / "answers.jsonl"
    done = run("ask", "--model", silent, "--save", kept, CIRCLE, WHAT)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "\n", f"note: {AT_ONCE}\n")
    done = run("ask", "--model", silent, "--json", CIRCLE, WHAT)
    for record in (json.loads(done.stdout), json.loads(kept.read_text())):
        assert (record["text"], record["error"]) == ("", None)
        assert (record["stop_reason"], record["notices"]) == ("empty", [AT_ONCE])
    again = run("ask", "--continue", "--json", WHAT)
    assert json.loads(again.stdout)["notices"] == [AT_ONCE]
    assert again.stderr == f"note: {AT_ONCE}\n"


def test_empty_answer_notice_in_chat(silent: Path) -> None:
    done = run("chat", "--jsonl", "--model", silent, CIRCLE, stdin=f"{WHAT}\n")
    record = json.loads(done.stdout)
    assert (record["stop_reason"], record["notices"]) == ("empty", [AT_ONCE])
    assert f"note: {AT_ONCE}\n" in done.stderr


def test_empty_answer_notice_in_a_summary(silent: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    formats = "txt,md,json,srt,vtt,html,chapters"
    done = run("summarise", "--model", silent, "--out", out, "--format", formats, CIRCLE)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"note: {AT_ONCE}\n" in done.stderr
    told = {file.suffix: file.read_text("utf-8") for file in out.glob("circle_right.*")}
    assert json.loads(told[".json"])["notices"] == [AT_ONCE]
    assert told[".txt"].endswith(f"\nnote: {AT_ONCE}\n")
    assert f"*Note: {AT_ONCE}*" in told[".md"]
    assert f'<p dir="auto">Note: {AT_ONCE}</p>' in told[".html"]
    assert told[".vtt"].startswith(f"WEBVTT\n\nNOTE {AT_ONCE}\n\n00:")
    assert told[".ffmetadata"].startswith(f";FFMETADATA1\n;note: {AT_ONCE}\n")


def test_nano_notice_appears_on_every_surface(real: Path, tmp_path: Path) -> None:
    answer = smolvideo.ask("nano", real, WHAT)
    assert NANO_NOTICE in answer.notices
    kept = tmp_path / "answers.jsonl"
    done = run("ask", "--model", "nano", "--save", kept, "--json", real, WHAT)
    assert NANO_NOTICE in json.loads(done.stdout)["notices"]
    assert NANO_NOTICE in next(iter(read_records(kept))).notices
    assert f"note: {NANO_NOTICE}\n" in done.stderr
    done = run("summarise", "--model", "nano", "--jsonl", "-", real)
    assert json.loads(done.stdout)["notices"][0] == NANO_NOTICE
    assert f"note: {NANO_NOTICE}\n" in done.stderr


def test_eval_run_and_reports_have_notices(silent: Path, real: Path, tmp_path: Path) -> None:
    items = [
        {"id": f"{video.stem}{n}", "video": video.name, "question": WHAT, "options": ["a", "b"],
         "answer_index": 0}
        for video in (CIRCLE, real) for n in range(2)
    ]  # fmt: skip
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    for video in (CIRCLE, real):
        shutil.copy(video, tmp_path)
    folder = tmp_path / "run"
    options = ["--run", folder, "--max-frames", "3", "--max-new-tokens", "2", "--prompt", "open"]
    done = run("eval", "jsonl", data, "--model", "nano", "--json", *options)
    nano_notice = "nano knows drawn scenes alone: its score on real footage means nothing"
    cut = "4 answers were cut: `--max-new-tokens` allows more"
    assert json.loads(done.stdout)["notices"] == [nano_notice, cut]
    assert f"note: {nano_notice}\n" in done.stderr
    for suffix in ("md", "html", "json"):
        report = tmp_path / f"report.{suffix}"
        run("eval", "report", folder, "--output", report)
        assert "its score on real footage means nothing" in report.read_text("utf-8"), suffix
    assert {one.stop_reason for one in RunFolder.read(folder).answers().values()} == {"length"}


def test_stage_seconds_exclude_time_between_stages() -> None:
    times = iter([10.0, 12.5, 20.0, 21.0, 30.0, 30.25])
    checkpoint = open_checkpoint("nano")
    prompt = pack_prompt([Message("user", ("Hi",))], checkpoint)
    growing = GenerationState(checkpoint, prompt, GenerationOptions(), clock=lambda: next(times))
    assert growing.seconds == {"encode": 0.0, "prefill": 0.0, "generate": 0.0}
    for stage in ("encode", "generate", "generate"):
        with growing.time_stage(stage):
            pass
    assert growing.seconds == {"encode": 2.5, "prefill": 0.0, "generate": 1.25}
