"""Hostile names, model answers and run folders: no command prints an active terminal sequence."""

import inspect
import io
import json
import pkgutil
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evals.test_reports import make_run
from rich.text import Text
from show.test_show import USAGE, stream_of
from support.project import ROOT
from test_html_page import hostile_run

import smolvideo.show
from smolvideo.answer import AnswerEvidence, ChoiceProbabilities, EvidenceFrame
from smolvideo.calibration.reliability import Reliability, ReliabilityBin
from smolvideo.cli.main import cli
from smolvideo.cost import Prediction, PromptSize, Rates
from smolvideo.engines import GenerationOptions
from smolvideo.errors import SourceError
from smolvideo.evals.comparison import compare_runs
from smolvideo.evals.run import EvalProgress
from smolvideo.evals.scores import build_report
from smolvideo.evals.suite_table import SuiteCell, SuiteTable
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.index.hits import Hit, SearchResult
from smolvideo.index.search import ScopeCost
from smolvideo.pipeline import CostPlan, PlannedPrompt
from smolvideo.progress import Progress
from smolvideo.prompt import PromptOptions
from smolvideo.records import SourceRecord
from smolvideo.replay import Difference, ReplayResult
from smolvideo.sampling import FrameSampling
from smolvideo.show.answer import show_footer, show_settings, stream_answer, stream_pieces
from smolvideo.show.choices import show_choices, show_reliability
from smolvideo.show.console import Output, SafeConsole
from smolvideo.show.evals import BenchmarkProgress, show_comparison, show_report, show_suite
from smolvideo.show.evidence import show_evidence
from smolvideo.show.filmstrip import show_filmstrip
from smolvideo.show.find import show_cost, show_hits
from smolvideo.show.plan import show_batch_costs, show_cost_plan
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.replay import show_replay
from smolvideo.show.summarise import BatchProgress, show_plan
from smolvideo.show.tables import show_key_values, show_table
from smolvideo.show.training import ExamProgress, TrainingProgress, show_exam_report, show_scores
from smolvideo.show.tuning import TuningProgress, show_tune_plan, show_tune_result
from smolvideo.source import VideoSource
from smolvideo.summaries import ItemResult, RunStats
from smolvideo.summaries.dry_run import PlannedItem
from smolvideo.summaries.record_log import SummaryRecord
from smolvideo.summaries.worklist import WorkItem
from smolvideo.train.schedule import TrainProgress
from smolvideo.tune.memory import TunePlan
from smolvideo.tune.training import TuneProgress

HOSTILE = (
    "a\x1b]0;owned\x07b\x1b[6nc\x9b31md\u202ee\u2066f\u200fg\u061ch\u2028i\u2029j\x7fk\x85l\ufeffm"
)
ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]"
)
OURS = re.compile(r"\x1b\[\??[\d;]*[mKAhlJ]|\r")
"""Sequences that rich writes: colours, and cursor movements of live displays."""


def check(shown: str) -> None:
    assert "\x1b[6n" not in shown
    found = ACTS.search(OURS.sub("", shown))
    assert found is None, repr(shown[max(0, shown.find(found[0]) - 40) :][:80])


# -------------------------------------------------------------------- functions

ITEM = WorkItem(HOSTILE, HOSTILE, PurePath("x"), error=SourceError(HOSTILE))
FAILED = SummaryRecord(
    path=HOSTILE,
    source=SourceRecord(HOSTILE, HOSTILE, "video"),
    style="brief",
    error=HOSTILE,
    hint=HOSTILE,
)


def batches() -> list[FrameBatch]:
    metadata = VideoMetadata(8, 8, 2.0, name=HOSTILE)
    return [FrameBatch(np.zeros((2, 8, 8, 3), np.uint8), (0.0, 1.0), metadata)]


def summarising(screen: Output, _: Path) -> None:
    tally = RunStats()
    with BatchProgress(screen, tally, 2) as progress:
        progress.on_progress(Progress("download", 1, 2, HOSTILE))
        progress.done(ItemResult(ITEM, FAILED, "failed", True))
        progress.note(HOSTILE)
        screen.err.print(progress._table())


def staging(screen: Output, _: Path) -> None:
    with StageProgress(screen) as stages:
        stages.on_progress(Progress("download", 1, 9, HOSTILE))
        screen.notice(HOSTILE)
        screen.notes([f"and {HOSTILE}"])


def evaluating(screen: Output, _: Path) -> None:
    with BenchmarkProgress(screen) as progress:
        for done in (1, 5, 9):
            progress.show(EvalProgress(done, 10, done, done, 0, HOSTILE))


def training(screen: Output, _: Path) -> None:
    with TrainingProgress(screen) as progress:
        progress.show(TrainProgress("answer", 1.0, 2.0, 3, 0.5, {HOSTILE: 0.5}))


def tuning(screen: Output, _: Path) -> None:
    with TuningProgress(screen) as progress:
        progress.show(TuneProgress(1, 9, 0.5, 2.0, {HOSTILE: 0.5}))


def scoring(screen: Output, folder: Path) -> None:
    shares = {HOSTILE: 0.5}
    (folder / "nano").mkdir()
    written = json.dumps({"held_out": shares, "held_out_grey": shares})
    (folder / "nano" / "training.json").write_text(written)
    (folder / "curve.jsonl").write_text(json.dumps({"scores": {"all": 0.5}}) + "\n")
    show_scores(screen, folder / "nano")


def examining(screen: Output, _: Path) -> None:
    group = {"right": 1.0, "blind": 0.0, "asked": 1}
    report = SimpleNamespace(
        setting={"model": HOSTILE},
        answers=[],
        summary=lambda: {
            "questions": 1,
            "open": 0.5,
            "multiple_choice": 0.5,
            "multiple_choice_by_score": None,
            "blind": {"open": 0.5, "multiple_choice": 0.5},
            "by_type": {HOSTILE: group},
            "combinations": {"known": 1.0, "novel": None},
            "wordings": {"known": 1.0, "novel": None},
            "new_wordings": dict.fromkeys(("all", "yes_no", "truth_yes", "truth_no"), group)
            | {"by_intent": {HOSTILE: group}},
            "second_renderer": {"all": group, "by_type": {HOSTILE: group}},
            "unanswerable": {"asked": 1, "abstained": 0.0, "right": 1.0, "wrong": 0.0},
            "answerable_abstained": 0.0,
        },
    )
    show_exam_report(screen.out, report)  # type: ignore[arg-type]


def comparing(screen: Output, folder: Path) -> None:
    run = hostile_run(folder / f"run {HOSTILE}", HOSTILE)
    show_comparison(screen.out, compare_runs(run, run, second_condition="main"))


def setting(screen: Output, _: Path) -> None:
    prepared = SimpleNamespace(
        sampling=FrameSampling(),
        prompt_options=PromptOptions(),
        generation=GenerationOptions(stop=(HOSTILE,)),
        reader="pyav",
        prompt=SimpleNamespace(text=HOSTILE, layout="smolvlm2", geometry="official"),
    )
    checkpoint = SimpleNamespace(name=HOSTILE, revision=HOSTILE, adapter_sha256=HOSTILE)
    engine = SimpleNamespace(
        checkpoint=checkpoint,
        name="native",
        device="cpu",
        dtype="float32",
        quantize="none",
        arithmetic="int8",
    )
    show_settings(screen, prepared, engine)  # type: ignore[arg-type]


def hostile_cost() -> CostPlan:
    """Return a plan with a hostile file name and checkpoint name."""
    size = PromptSize(1, 10, 5)
    cost = Prediction(HOSTILE, size, {"load": 1.0, "encode": 1.0, "prefill": 1.0}, 0.1, 9, 4)
    (batch,) = batches()
    prompt = PlannedPrompt(
        sources=(VideoSource(HOSTILE, Path(HOSTILE), "video", HOSTILE),),
        metadata=(batch.metadata,),
        times=((0.0,),),
        size=size,
        smaller=(),
        others=(),
        exact=False,
        seconds={},
        notices=(HOSTILE,),
    )
    rates = Rates(HOSTILE, "float32", 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, 1.0)
    return CostPlan(HOSTILE, prompt, cost, (cost,), (cost,), rates)


SHOWING: dict[str, Callable[[Output, Path], object]] = {
    "stream_answer": lambda screen, _: stream_answer(screen, stream_of(HOSTILE, HOSTILE)),
    "stream_pieces": lambda screen, _: stream_pieces(screen, [*HOSTILE]),
    "show_footer": lambda screen, _: show_footer(screen, USAGE, USAGE.seconds),
    "show_settings": setting,
    "BatchProgress": summarising,
    "show_plan": lambda screen, _: show_plan(
        screen, [ITEM], [PlannedItem(ITEM, "error", HOSTILE)], lambda: None
    ),
    "show_cost_plan": lambda screen, _: show_cost_plan(
        screen, hostile_cost(), context_tokens=100, available_bytes=1
    ),
    "show_batch_costs": lambda screen, _: show_batch_costs(
        screen, [(HOSTILE, hostile_cost()), (HOSTILE, HOSTILE)]
    ),
    "StageProgress": staging,
    "BenchmarkProgress": evaluating,
    "show_report": lambda screen, folder: show_report(
        screen.out, build_report(hostile_run(folder / f"run {HOSTILE}", HOSTILE))
    ),
    "show_comparison": comparing,
    "show_suite": lambda screen, _: show_suite(
        screen.out,
        SuiteTable((HOSTILE, HOSTILE), (((HOSTILE,), (SuiteCell("1.0 %", remark="1 answered"),)),)),
    ),
    "ExamProgress": lambda screen, _: ExamProgress(screen).show(1, 2, 1, 2),
    "show_exam_report": examining,
    "show_hits": lambda screen, _: show_hits(
        screen, SearchResult(HOSTILE, (Hit(HOSTILE, 1.0, 2.0, 0.5, HOSTILE),)), "blocks"
    ),
    "show_cost": lambda screen, _: show_cost(screen, ScopeCost(1, 2), scanned=1),
    "show_filmstrip": lambda screen, _: show_filmstrip(screen, batches(), "blocks"),
    "show_table": lambda screen, _: show_table(
        screen, ["what"], [[HOSTILE], [HOSTILE * 9]], right=frozenset()
    ),
    "show_key_values": lambda screen, _: show_key_values(screen, {"name": HOSTILE}),
    "TrainingProgress": training,
    "TuningProgress": tuning,
    "show_tune_result": lambda screen, _: show_tune_result(
        screen,
        SimpleNamespace(  # type: ignore[arg-type]
            course=SimpleNamespace(best_step=1, step=2, seconds=3.0),
            frames_encoded=4,
            frames_from_cache=5,
        ),
        [(HOSTILE, 0.1, 0.9, 7)],
        ({HOSTILE: (0.5, 3)}, {}),
    ),
    "show_tune_plan": lambda screen, _: show_tune_plan(
        screen,
        TunePlan(HOSTILE, "lora", {"weights": 1}, 2, 3, 4, 5, 6, 7, 8, 9, 10, advice=(HOSTILE,)),
    ),
    "show_choices": lambda screen, _: show_choices(
        screen, ChoiceProbabilities({HOSTILE: 0.75, "b": 0.25}, 0.9)
    ),
    "show_evidence": lambda screen, _: show_evidence(
        screen,
        batches(),
        AnswerEvidence("frames", HOSTILE, (EvidenceFrame(0, 0.0, 1.0),), 0.9, 0.1, 0.9, 2.0, 1.0),
        "blocks",
        layout="nano",
    ),
    "show_replay": lambda screen, _: show_replay(
        screen,
        ReplayResult(
            HOSTILE, 1, ("answer",), (Difference("answer", HOSTILE, HOSTILE),), notices=(HOSTILE,)
        ),
    ),
    "show_reliability": lambda screen, _: show_reliability(
        screen.out, HOSTILE, Reliability(0.1, (ReliabilityBin(0.0, 0.1, 3, 0.05, 0.5),))
    ),
    "show_scores": scoring,
}
"""Every show function by name; the next test checks that none is missing."""


def test_every_show_function_is_covered() -> None:
    found = set()
    for module in pkgutil.iter_modules(smolvideo.show.__path__):
        for name, thing in vars(import_module(f"smolvideo.show.{module.name}")).items():
            shows = name.startswith(("show_", "stream_")) or name.endswith("Progress")
            if shows and inspect.getmodule(thing) is not None:
                if not str(getattr(thing, "__module__", "")).startswith("smolvideo.show"):
                    continue
                found.add(name)
    assert found == set(SHOWING)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("name", SHOWING)
def test_show_functions_print_no_active_sequence(name: str, terminal: bool, tmp_path: Path) -> None:
    streams = io.StringIO(), io.StringIO()
    out, err = (
        SafeConsole(file=stream, width=80, force_terminal=terminal, markup=False, highlight=False)
        for stream in streams
    )
    SHOWING[name](Output(out, err, verbose=True), tmp_path)
    shown = streams[0].getvalue() + streams[1].getvalue()
    assert shown or (name, terminal) == ("ExamProgress", True), "a bar, which is not begun here"
    check(shown)


def test_console_escapes_unsanitized_text() -> None:
    stream = io.StringIO()
    console = SafeConsole(file=stream, width=80, force_terminal=True, markup=False)
    console.print(Text(HOSTILE, "bold"), HOSTILE, [HOSTILE])
    check(stream.getvalue())
    # rich drops the bell character in these two.
    assert r"a\x1b]0;ownedb\x1b[6nc\x9b31md\u202ee\u2066f\u200fg\u061ch" in stream.getvalue()


# --------------------------------------------------------------------- commands


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a tampered run, a video and a model of hostile names."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    hostile_run(tmp_path / "run", HOSTILE)
    make_run(tmp_path / f"other {HOSTILE}")
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(ROOT / "samples" / "circle_right.mp4", folder / f"{HOSTILE}.mp4")
    (folder / f"{HOSTILE} broken.mp4").write_bytes(b"no video at all")
    (tmp_path / f"model {HOSTILE}").mkdir()
    return tmp_path


def commands(folder: Path) -> Iterator[list[str]]:
    for form in ("charts", "markdown", "html", "csv", "json"):
        yield ["eval", "report", "run", "--format", form]
        yield ["eval", "report", f"other {HOSTILE}", "--format", form]
    for more in ([], ["--json"]):
        yield ["eval", "compare", "run", "run", "--second-condition", "blind", *more]
        yield ["eval", "compare", f"other {HOSTILE}", "run", *more]
        yield [
            "eval", "compare", f"other {HOSTILE}", f"other {HOSTILE}",
            "--second-condition", "blind", *more,
        ]  # fmt: skip
        yield ["frames", f"videos/{HOSTILE}.mp4", "--max-frames", "2", "--geometry", "none", *more]
        yield ["models", "info", f"model {HOSTILE}", *more]
    yield ["eval", "report", HOSTILE]
    yield ["eval", "export", f"other {HOSTILE}", "exported"]
    yield ["summarise", "videos", "--dry-run", "--model", "nano"]
    index = ["--index", f"{HOSTILE}.sqlite"]
    yield ["index", "videos", *index, "--model", "nano", "--max-frames", "1"]
    for more in ([], ["--json"], ["--export", "csv"], ["--export", "html"], ["--export", "m3u"]):
        yield ["find", f"circle {HOSTILE}", *index, "--no-confirm", "--min", "0", *more]
    yield ["find", f"circle {HOSTILE}", f"{HOSTILE}.mp4", *index]
    yield ["index", "status", *index]
    yield ["index", f"{HOSTILE}.mp4", *index, "--model", "nano"]
    yield ["ask", f"{HOSTILE}.mp4", "What?"]
    yield ["ask", f"videos/{HOSTILE} broken.mp4", f"What {HOSTILE}?"]
    yield ["ask", f"videos/{HOSTILE}.mp4", "What?", "--model", HOSTILE]
    yield ["ask", f"videos/{HOSTILE}.mp4", "What?", "--max-frames", HOSTILE]
    yield ["ask", f"videos/{HOSTILE}.mp4", "What?", "--subtitles", f"{HOSTILE}.srt"]
    yield ["ask", "videos", "What?", f"--{HOSTILE}"]
    yield ["frames", f"https://127.0.0.1:1/{HOSTILE}.mp4", "--offline"]
    yield ["summarise", "--list", HOSTILE]
    yield ["eval", "jsonl", HOSTILE, "--videos", HOSTILE]
    yield ["chat", f"{HOSTILE}.mp4", "--plain"]
    yield ["--debug", "ask", f"{HOSTILE}.mp4", "What?"]
    yield [HOSTILE]


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names there")
def test_commands_print_no_active_sequence(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in commands(world):
        cli.main(arguments, standalone_mode=False)
        captured = capsys.readouterr()
        assert captured.out + captured.err, arguments
        try:
            check(captured.out)
            check(captured.err)
        except AssertionError as error:
            raise AssertionError(f"{arguments}: {error}") from error


@pytest.mark.skipif(sys.platform == "win32", reason="no such file names there")
def test_json_and_csv_values_are_unchanged(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> Any:
        cli.main(list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    report = json.loads(shown("eval", "report", "run", "--format", "json"))
    assert report["model"]["name"] == HOSTILE
    assert HOSTILE in report["conditions"]["main"]["groups"]
    written = shown("eval", "report", "run", "--format", "csv")
    assert r"a\x1b]0;owned\x07b\x1b[6nc\x9b31md\u202ee" in written
    video = f"videos/{HOSTILE}.mp4"
    seen = json.loads(shown("frames", video, "--max-frames", "2", "--geometry", "none", "--json"))
    assert video in seen.values()
