"""The exam: fixed questions, rendered videos, scoring rules, resuming."""

import hashlib
import json
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from project.test_imports import modules_after
from support.record_schemas import validate_line

from smolvideo.cli.main import cli
from smolvideo.engines import Engine, load_engine
from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.item import LETTERS
from smolvideo.models import open_checkpoint
from smolvideo.sampling import FrameSampling
from smolvideo.train.exam import PARTS, ExamOptions, ExamPart, evaluate
from smolvideo.train.exam.evaluate import evaluate_exam
from smolvideo.train.exam.run import ExamAnswer, ExamReport, ExamRun, is_correct
from smolvideo.train.exam.videos import ExamVideo, sample_exam_videos
from smolvideo.train.world.abstention import ABSTENTION
from smolvideo.train.world.question import Question
from smolvideo.train.world.questions import FrameClock

WORLD_OF_ONE = ("eval", "world", "--limit", "1", "--quiet")
CLOCK = FrameClock(tuple(place / 11 for place in range(12)), 24.0)


def test_exam_questions_are_frozen() -> None:
    """A change of the drawn world changes the exam; its figures are then not comparable."""
    paper = hashlib.sha256()
    for video in sample_exam_videos(ExamOptions(12)):
        paper.update(repr(video.scene.scene_key()).encode())
        for question in chain(*video.questions(CLOCK)):
            for turn in (*question.history, question):
                asked = (turn.type, turn.subtitles, turn.text, turn.answer, turn.event_time)
                paper.update(repr(asked).encode())
    assert paper.hexdigest()[:16] == "3b364a3b55a4c377"


def test_exam_scenes_are_held_out_of_training() -> None:
    videos = list(sample_exam_videos(ExamOptions(40)))
    assert [video.scene.is_novel() for video in videos] == [False, True] * 20
    assert all(video.scene.held_out() for video in videos[::2])
    assert sum(video.novel_wording for video in videos) == 20
    opened, choices = zip(*(video.questions(CLOCK) for video in videos), strict=True)
    assert sum(map(len, opened)) > 9 * 40
    assert all(len(some) == 3 for some in choices)
    types = {question.type for some in opened for question in some}
    assert types == {
        "background", "colour", "count", "describe", "direction", "follow-up", "moment", "motion",
        "mover", "order", "place", "shape", "size", "subtitles", "text", "time", "yes-no",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("00:04", True),  # the first frame that shows it
        ("00:05", True),
        ("00:03", True),
        ("00:01", True),  # which may last up to 1.9 seconds
        ("00:00", False),
        ("00:06", False),
        ("four", False),
        ("0:4", False),
        ("", False),
    ],
)
def test_times_are_right_within_one_step(given: str, right: bool) -> None:
    question = Question("time", "When?", "00:04", event_time=0.35)  # after 3.5 of ten seconds
    assert is_correct(question, given, duration=10.0, step=2.0) is right


@pytest.mark.parametrize(
    ("given", "right"),
    [("B", True), ("**Answer:** B", True), ("b", True), ("A", False), ("blue", False), ("", False)],
)
def test_letters_are_extracted_by_the_benchmark_rule(given: str, right: bool) -> None:
    question = Question("choice", "Which?", "B")
    assert is_correct(question, given, duration=1.0, step=1.0) is right


def answered(type: str, right: bool, *, blind: bool = False, novel: bool = False) -> ExamAnswer:
    side = "novel" if novel else "fresh"
    return ExamAnswer(0, side, novel, type, "?", "red", "red", "blue", right, blind)  # type: ignore[arg-type]


def test_summary_accuracies() -> None:
    report = ExamReport(
        {},
        (
            answered("colour", True, blind=True),
            answered("colour", False, novel=True),
            answered("text", True, novel=True),
            answered("choice", True),
        ),
    )
    found = report.summary()
    assert found["open"] == 0.6667
    assert found["multiple_choice"] == 1.0
    assert found["multiple_choice_by_score"] is None
    assert found["blind"]["open"] == 0.3333
    assert found["blind"]["multiple_choice"] == 0.0
    assert found["by_type"] == {
        "colour": {"right": 0.5, "blind": 0.5, "asked": 2},
        "text": {"right": 1.0, "blind": 0.0, "asked": 1},
    }
    assert found["combinations"] == {"known": 1.0, "novel": 0.5}
    assert [json.loads(line)["type"] for line in report.to_jsonl().splitlines()][-1] == "choice"
    assert ExamReport({}, ()).summary()["open"] is None


def test_summary_keeps_the_parts_apart() -> None:
    worded = replace(answered("yes-no", True), answer="yes", part="wordings", intent="is colour")
    refused = replace(answered("refused", True), answer=ABSTENTION, part="unanswerable")
    report = ExamReport(
        {},
        (
            answered("colour", False),
            replace(answered("colour", False), seen=ABSTENTION),
            worded,
            replace(worded, answer="no", right=False),
            replace(answered("place", True, blind=True), part="renderer"),
            replace(refused, seen="i only know drawn shapes"),
            replace(refused, type="absent", seen="none"),
            replace(refused, seen="red", right=False),
        ),
    )
    found = report.summary()
    assert (found["questions"], found["open"]) == (2, 0.0)
    assert found["by_type"].keys() == {"colour"}
    wordings = found["new_wordings"]
    assert wordings["all"] == {"right": 0.5, "blind": 0.0, "asked": 2}
    assert wordings["truth_yes"]["right"] == 1.0
    assert wordings["truth_no"]["right"] == 0.0
    assert wordings["by_intent"] == {"is colour": {"right": 0.5, "blind": 0.0, "asked": 2}}
    assert found["second_renderer"]["by_type"]["place"] == {"right": 1.0, "blind": 1.0, "asked": 1}
    third = 0.3333
    shares = {"right": third, "wrong": third, "abstained": third, "asked": 3}
    assert found["unanswerable"] == shares
    assert found["answerable_abstained"] == 0.2


@pytest.mark.parametrize(
    "changes",
    [
        {"right": False},
        {"type": "choice", "answer": "B", "seen": "A", "right": True},
        {"type": "choice", "answer": "B", "blind": "B", "blind_right": False},
        {"place": 1},
        {"count": -1},
        {"video": -1},
    ],
)
def test_contradictory_answer_is_wrong(changes: dict[str, Any]) -> None:
    whole = answered("colour", True)
    assert ExamAnswer.from_json(whole.to_json()) == whole
    with pytest.raises(ValueError, match=r"cannot be|no question"):
        ExamAnswer.from_json(replace(whole, **changes).to_json())


def test_most_likely_option_is_counted_next_to_the_letter() -> None:
    chosen = replace(answered("choice", False), answer="B", likeliest="B", blind_likeliest="A")
    other = replace(chosen, likeliest="C")
    found = ExamReport({}, (chosen, other, answered("choice", True))).summary()
    assert found["multiple_choice"] == 0.3333
    assert found["multiple_choice_by_score"] == 0.5
    assert found["blind"]["multiple_choice_by_score"] == 0.0


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a temporary folder, because runs are stored below the current one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def _few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show four frames of each video: for tests of the run, not of the accuracy."""
    few = partial(evaluate.load_frames, sampling=FrameSampling(max_frames=4))
    monkeypatch.setattr(evaluate, "load_frames", few)


# The transformers engine encodes the frames for every question.
@pytest.mark.usefixtures("_few_frames")
def test_both_engines_give_the_same_exam_answers(tmp_path: Path) -> None:
    checkpoint = open_checkpoint("nano")
    reports = [
        evaluate_exam(
            load_engine(checkpoint, engine=engine, device="cpu", dtype="float32"),
            ExamOptions(1),
            parts=("old",),
            folder=tmp_path,
        )
        for engine in ("native", "transformers")
    ]
    assert [report.setting["engine"] for report in reports] == ["native", "transformers"]
    native, peer = (report.answers for report in reports)
    assert [replace(a, likeliest=None, blind_likeliest=None) for a in native] == list(peer)
    assert {a.likeliest in LETTERS[:5] for a in native if a.type == "choice"} == {True}
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["world0000.mp4"]


@pytest.mark.usefixtures("_few_frames")
def test_stopped_exam_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_engine(open_checkpoint("nano"), device="cpu")
    options, parts = ExamOptions(2), ["old"]
    videos = tmp_path / "videos"
    videos.mkdir()
    asked: list[tuple[str, int]] = []
    plain = evaluate._asked

    def counted(engine: Engine, part: ExamPart, video: ExamVideo, folder: Path) -> Any:
        asked.append((part, video.number))
        return plain(engine, part, video, folder)

    monkeypatch.setattr(evaluate, "_asked", counted)

    def sit() -> ExamReport:
        run = ExamRun.open(tmp_path / "run", engine, options)
        return evaluate_exam(engine, options, parts=parts, folder=videos, run=run)

    whole = sit()
    assert sorted(path.name for path in videos.iterdir()) == ["world0000.mp4", "world0001.mp4"]
    validate_line("exam-run", (tmp_path / "run" / "run.json").read_text("utf-8"))
    answers = tmp_path / "run" / "answers.jsonl"
    lines = answers.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole.answers)
    # Killed while writing a line about the second video.
    answers.write_bytes(b"".join(lines[:-2]) + lines[-2][:30])
    assert sit() == whole
    assert sit() == whole
    assert asked == [("old", 0), ("old", 1), ("old", 1)]
    # Another part joins the run; answers written before there were parts are those of `old`.
    for newer in (b', "part": "old"', b', "intent": null'):
        answers.write_bytes(answers.read_bytes().replace(newer, b""))
    parts = ["unanswerable", "old"]
    more = sit()
    assert more.answers[: len(whole.answers)] == whole.answers
    assert asked[3:] == [("unanswerable", 0), ("unanswerable", 1)]
    lines = answers.read_bytes().splitlines(keepends=True)
    answers.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert sit() == more
    assert asked[5:] == [("unanswerable", 1)]
    parts = ["old"]
    with pytest.raises(UsageError, match="videos: 2, now 3"):
        ExamRun.open(tmp_path / "run", engine, ExamOptions(3))
    run = ExamRun.open(tmp_path / "run", engine, options)
    with run.held(), pytest.raises(RecordError, match="another process"):
        sit()
    answers.write_text(answers.read_text().replace('"place": 0', '"place": "x"', 1))
    with pytest.raises(RecordError, match="`place` is of another type"):
        sit()
    (tmp_path / "run" / "run.json").write_text("[" * 100_000)
    with pytest.raises(RecordError, match="no exam that can be read"):
        ExamRun.open(tmp_path / "run", engine, options)
    (videos / "thesis.txt").touch()
    with pytest.raises(RecordError, match="something else than a run"):
        ExamRun.open(videos, engine, options)


@pytest.mark.slow
def test_nano_answers_the_exam_from_the_frames() -> None:
    """On a part of the exam; ``smolvideo eval world`` runs all of it."""
    engine = load_engine(open_checkpoint("nano"), device="cpu")
    report = evaluate_exam(engine, ExamOptions(5), parts=("old",))
    found = report.summary()
    assert found["questions"] > 50
    assert len(report.to_jsonl().splitlines()) == found["questions"]
    assert found["open"] > 0.8
    assert found["blind"]["open"] < found["open"] / 2
    assert found["multiple_choice_by_score"] > 0.7
    assert found["blind"]["multiple_choice_by_score"] < 0.5


@pytest.mark.usefixtures("_few_frames")
def test_command_prints_json_or_a_table_and_saves_the_answers(tmp_path: Path) -> None:
    kept, videos = tmp_path / "answers.jsonl", tmp_path / "videos"
    words = ["eval", "world", "--limit", "1", "--json", "-o", str(kept), "--videos", str(videos)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.count("\n") == 1
    found = validate_line("exam-report", done.stdout)
    assert found.keys() >= {"open", "multiple_choice", "blind", "by_type"}
    groups = found["new_wordings"]["all"], found["second_renderer"]["all"], found["unanswerable"]
    assert all(group["asked"] > 0 for group in groups)
    answers = [validate_line("exam-answer", line) for line in kept.read_text("utf-8").splitlines()]
    assert sum(answer["part"] == "old" for answer in answers) == found["questions"] > 8
    assert {answer["part"] for answer in answers} == {*PARTS}
    drawn = sorted(path.name for path in videos.iterdir())
    assert drawn == ["redrawn0000.mp4", "world0000.mp4"]
    again = CliRunner().invoke(cli, words)
    assert again.exit_code != 0
    assert "--overwrite" in again.stderr
    # The same exam again, already complete, without ``--json``.
    table = CliRunner().invoke(cli, ["eval", "world", "--limit", "1", "--quiet"])
    assert table.exit_code == 0, table.stderr
    assert table.stderr == ""
    for line in (
        "open questions", "grey frames", "five options", "combinations of training",
        "new wordings", "truth is no", "second renderer", "unanswerable questions: abstained",
    ):  # fmt: skip
        assert line in table.stdout
    # Only a part of it.
    some = CliRunner().invoke(
        cli, ["eval", "world", "--limit", "1", "--quiet", "--part", "renderer"]
    )
    assert some.exit_code == 0, some.stderr
    assert "second renderer" in some.stdout
    for other in ("open questions", "new wordings", "unanswerable"):
        assert other not in some.stdout


@pytest.mark.usefixtures("_few_frames")
def test_exam_reports_dtype_and_quantization() -> None:
    done = CliRunner().invoke(
        cli,
        [*WORLD_OF_ONE, "--part", "old", "--json", "--quantize", "int8"],
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["quantize"] == "int8"


def test_help_loads_no_network_library() -> None:
    loaded = modules_after("eval", "world", "--help")
    assert loaded.isdisjoint({"av", "tokenizers", "torch", "transformers", "yt_dlp"})
