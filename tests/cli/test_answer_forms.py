"""``--schema``, ``--choices``, ``--rate`` and ``--calibrate``: JSON and probabilities on stdout."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from support import record_schemas
from support.project import ROOT

from smolvideo.answer import ChoiceProbabilities
from smolvideo.calibration import ReliabilityBin
from smolvideo.calibration.reliability import Reliability
from smolvideo.cli.main import cli
from smolvideo.pipeline import parse_choices
from smolvideo.records import read_records
from smolvideo.show.choices import show_choices, show_reliability
from smolvideo.show.console import Output

CIRCLE = ROOT / "samples" / "circle_right.mp4"
FIELDS = "colour red|purple, moving bool"
FEW = ("--max-frames", "4", "--device", "cpu")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMOLVIDEO_DATA_DIR", str(tmp_path / "kept"))


def run(*words: str | Path, code: int = 0, stdin: str | None = None) -> Result:
    done = CliRunner().invoke(cli, [str(word) for word in words], input=stdin)
    assert done.exit_code == code, done.stderr
    return done


def ask(*words: str | Path, code: int = 0) -> Result:
    return run("ask", *FEW, *words, code=code)


def test_ask_prints_json_by_the_schema(tmp_path: Path) -> None:
    done = ask("--schema", FIELDS, CIRCLE, "What moves?", "--save", tmp_path / "a.jsonl")
    assert list(json.loads(done.stdout)) == ["colour", "moving"]
    assert done.stdout.count("\n") == 1
    (record,) = read_records(tmp_path / "a.jsonl")
    assert record.text == done.stdout.strip()
    assert list(record.settings["schema"]["properties"]) == ["colour", "moving"]


def test_incomplete_json_leaves_stdout_empty(tmp_path: Path) -> None:
    words = ("--schema", FIELDS, CIRCLE, "What moves?", "--max-new-tokens", "5")
    done = ask(*words, "--save", tmp_path / "a.jsonl", code=4)
    assert done.stdout == ""
    assert "Error: the JSON of the answer is incomplete after 5 tokens" in done.stderr
    (record,) = read_records(tmp_path / "a.jsonl")
    assert record.text is None
    assert "incomplete" in str(record.error)


def test_schema_of_one_question_is_not_kept_for_the_next() -> None:
    ask("--schema", FIELDS, CIRCLE, "What moves?")
    free = run("ask", "--continue", "What moves?")
    assert not free.stdout.startswith("{")
    again = run("ask", "--continue", "--schema", '{"type": "boolean"}', "Does anything move?")
    assert again.stdout in ("true\n", "false\n")


def test_stop_of_the_configuration_gives_way_to_a_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('stop = ["red"]\n')
    monkeypatch.setenv("SMOLVIDEO_CONFIG", str(config))
    assert json.loads(ask("--schema", FIELDS, CIRCLE, "What moves?").stdout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--schema", '{"not": {}}'], "keyword `not` of the schema is not supported"),
        (["--schema", "a, a"], "is in the schema twice"),
        (["--schema", "none.json"], "cannot read the schema"),
        (["--schema", ""], "the schema is empty"),
        (["--schema", "a", "--stop", "x"], "`stop` would cut"),
        (["--schema", "a", "--choices", "b,c"], "`--schema` has no effect on choices"),
        (["--choices", "a,b", "--rate", "1-5"], "give one of them"),
        (["--choices", "a"], "2 to 100 choices"),
        (["--choices", "a,,b"], "a choice must not be empty"),
        (["--choices", "a,A"], "not all different"),
        (["--choices", ""], "2 to 100 choices"),
        (["--choices", 'red,"blue, dark'], "not one line of CSV"),
        (["--choices", '"a"b,c'], "not one line of CSV"),
        (["--choices", "a,b", "--temperature", "1"], "`--temperature` has no effect on choices"),
        (["--choices", "a,b", "--max-new-tokens", "9"], "`--max-new-tokens` has no effect"),
        (["--choices", "a,b", "--continue"], "`--choices` is for a question of its own"),
        (["--rate", "5"], "a rating is a range"),
        (["--rate", "5-1"], "2 to 20 steps"),
        (["--rate", "1-99"], "2 to 20 steps"),
        (["--rate", "-1-5"], "a rating is a range"),
        (["--uncalibrated"], "`--uncalibrated` has no effect without choices"),
        (["--calibrate", "a.jsonl"], "SOURCE"),
        (["--choices", "a,b", "--calibrate", "a.jsonl"], "`SOURCE` is for one question"),
    ],
)
def test_options_that_cannot_be_honoured_are_usage_errors(options: list[str], said: str) -> None:
    done = ask(*options, CIRCLE, "What moves?", code=2)
    assert said in done.stderr
    assert done.stdout == ""


def test_choices_have_a_line_each_and_a_record(tmp_path: Path) -> None:
    words = ("--choices", "no, yes", CIRCLE, "Does anything move?")
    done = run("ask", *words, "--save", tmp_path / "a.jsonl")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, _ in lines] == ["no", "yes"]
    assert float(lines[1][1]) > 0.9
    (record,) = read_records(tmp_path / "a.jsonl")
    assert (record.text, record.stop_reason) == ("yes", "choice")
    assert record.choices is not None
    assert list(record.choices.probabilities) == ["no", "yes"]
    content = record_schemas.validate_line("answer", run("ask", *words, "--json").stdout)
    assert content["choices"]["mass"] > 0.9
    run("ask", *words, "--output", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == done.stdout


def test_options_of_choices_are_not_kept_for_the_next_question() -> None:
    ask("--choices", "yes,no", CIRCLE, "Does anything move?")
    assert "cut after" not in run("ask", "--continue", "Describe the video.").stderr


def test_rating_ends_with_the_expected_value() -> None:
    lines = ask("--rate", "1-3", CIRCLE, "How many circles?").stdout.splitlines()
    found = dict(line.split("\t") for line in lines)
    assert list(found) == ["1", "2", "3", "rating"]
    expected = sum(int(name) * float(found[name]) for name in "123")
    assert float(found["rating"]) == pytest.approx(expected, abs=1e-3)


def test_calibration_is_fitted_kept_and_applied(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "clips", ignore=lambda *_: ["benchmark"])
    labelled = tmp_path / "clips" / "labelled.jsonl"
    # Labels that the model does not agree with, so that there is something to correct.
    rows = [
        {"video": name, "question": f"Is there a {colour} circle?", "answer": answer}
        for name in ("circle_right.mp4", "circle_appears.mp4", "triangle_down.mp4")
        for colour, answer in (("purple", "yes"), ("red", "yes"), ("green", "no"), ("blue", "No"))
    ]
    rows.append({"video": "missing.mp4", "question": "Is it there?", "answer": "yes"})
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--choices", "yes,no", "--calibrate", labelled)
    done = ask(*words, code=6)
    assert "yes, no: 12 questions about 3 videos" in done.stdout
    assert done.stdout.count("ECE") == 2
    assert "kept in" in done.stderr
    assert "videos left out" in done.stderr
    report = record_schemas.validate_line("calibration", ask(*words, "--json", code=6).stdout)
    question = ("--choices", "yes,no", CIRCLE, "Is there a blue circle?", "--json")
    corrected = json.loads(ask(*question).stdout)["choices"]
    plain = json.loads(ask(*question, "--uncalibrated").stdout)["choices"]
    assert corrected["calibration"] == report["calibration"] | {
        "created": corrected["calibration"]["created"]
    }
    assert plain["calibration"] is None
    assert corrected["probabilities"] != plain["probabilities"]
    assert corrected["mass"] == plain["mass"]
    others = json.loads(ask("--choices", "no,yes", *question[2:]).stdout)["choices"]
    assert others["calibration"] is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"video": "a.mp4", "question": "?", "answer": "perhaps"}, "`perhaps` is none of the"),
        ({"video": "a.mp4", "question": "?"}, "has no `answer`"),
        ({"video": "a.mp4", "answer": "yes"}, "has no `question`"),
        ({"question": "?", "answer": "yes"}, "has no `video`"),
    ],
)
def test_row_that_is_not_labelled_is_named(row: dict[str, str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    good = {"video": "a.mp4", "question": "?", "answer": "yes"}
    file.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    done = ask("--choices", "yes,no", "--calibrate", file, code=3)
    assert "row 2" in done.stderr
    assert said in done.stderr


def test_labelled_videos_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    file.write_text('{"video": "a.mp4", "question": "?", "answer": "yes"}\n')
    for model in ((), ("--model", "nano")):
        said = ask("--choices", "yes,no", "--calibrate", file, *model, code=3).stderr
        assert "no video of the labelled questions can be read: no such file" in said
        assert "a.mp4" in said


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ('red,"blue, dark",été', ("red", "blue, dark", "été")),
        (' yes , "no", it\'s 5" wide', ("yes", "no", "it's 5\" wide")),
        ('"a ""b""",c', ('a "b"', "c")),
        ("yes,\nno\n", ("yes", "no")),
    ],
)
def test_choices_are_a_line_of_csv(text: str, choices: tuple[str, ...]) -> None:
    assert parse_choices(text) == choices


def test_damaged_calibrations_are_an_error_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smolvideo.cli.ask_choices.choose_engine", pytest.fail)
    monkeypatch.setattr("smolvideo.cli.load_question.choose_engine", pytest.fail)
    kept = tmp_path / "kept" / "calibrations.json"
    kept.parent.mkdir()
    kept.write_text("[]")
    file = tmp_path / "labelled.jsonl"
    file.write_text(json.dumps({"video": str(CIRCLE), "question": "?", "answer": "yes"}) + "\n")
    for words in (("--calibrate", file), (CIRCLE, "What moves?")):
        said = ask("--choices", "yes,no", *words, code=5).stderr
        assert "are damaged: `calibrations` is not a list of objects" in said


def test_choices_that_do_not_fit_have_a_hint_for_choices() -> None:
    words = ("--model", "nano", "--choices", "x y " * 2000 + ",no", CIRCLE)
    said = ask(*words, "What moves?", code=4).stderr
    assert "or shorter choices" in said
    said += ask("--model", "nano", "--choices", "yes,no", CIRCLE, "so " * 3000, code=4).stderr
    assert "--max-new-tokens" not in said


def test_summary_by_a_schema_is_one_document(tmp_path: Path) -> None:
    words = ("summarise", "--model", "nano", "--device", "cpu", "--schema", FIELDS)
    whole = run(*words, "--style", "detailed", CIRCLE)
    windows = run(*words, "--window", "2", CIRCLE, "--jsonl", tmp_path / "s.jsonl")
    assert list(json.loads(whole.stdout)) == ["colour", "moving"]
    assert windows.stdout == ""
    record = json.loads((tmp_path / "s.jsonl").read_text())
    assert len(record["notes"]) > 1
    assert list(json.loads(record["text"])) == ["colour", "moving"]
    assert not any(note["text"].startswith("{") for note in record["notes"])


def test_summary_with_incomplete_json_is_an_error() -> None:
    words = ("--model", "nano", "--device", "cpu", "--schema", FIELDS, "--max-new-tokens", "4")
    done = run("summarise", *words, CIRCLE, code=4)
    assert done.stdout == ""
    assert "JSON of the answer is incomplete" in done.stderr


def terminal(width: int) -> Output:
    def console() -> Console:
        return Console(width=width, force_terminal=True, color_system=None, record=True)

    return Output(console(), console())


@pytest.mark.parametrize("width", [20, 80, 200])
def test_terminal_has_a_bar_for_each_choice(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    screen = terminal(width)
    found = ChoiceProbabilities({"yes": 0.75, "\x1b[31mno": 0.25, "東京": 0.0}, 1.0, 2.5)
    show_choices(screen, found)
    lines = screen.out.export_text().splitlines()
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert lines[0].count("█") > lines[1].count("█") > lines[2].count("█") == 0
    assert "75.0 %" in lines[0]
    assert "\x1b" not in lines[1]
    assert lines[3] == "rating 2.50"


def test_reliability_diagram_has_the_bins_that_are_filled() -> None:
    screen = terminal(80)
    bins = (ReliabilityBin(0.5, 0.6), ReliabilityBin(0.9, 1.0, 1200, 0.95, 0.5))
    show_reliability(screen.out, "before: ECE 0.450", Reliability(0.45, bins))
    lines = screen.out.export_text().splitlines()
    assert lines[0] == "before: ECE 0.450"
    assert len(lines) == 2
    assert " 90 to 100 %" in lines[1]
    assert lines[1].endswith(" 50 % of 1,200 right")
    assert lines[1].index("|") > lines[1].rindex("█")
