"""Reports of a run in every format, against values computed by hand."""

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console
from support.project import ROOT

from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.comparison import compare_runs
from smolvideo.evals.item import EvalItem
from smolvideo.evals.lmms_eval import export_lmms_eval
from smolvideo.evals.report_files import csv_report, html_report, markdown_report
from smolvideo.evals.run_folder import EvalAnswer, EvalVideo, RunFolder, RunInfo, clip_id
from smolvideo.evals.scores import build_report
from smolvideo.evals.settings import EvalSettings
from smolvideo.show.evals import show_comparison, show_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[2J=cmd()"
CHOICES = {
    # id: video, category, hard, right, chosen (None: names none; "x": no answer)
    "0": ("a", "Temporal", "True", 0, 0),
    "1": ("a", "Temporal", "False", 1, 1),
    "2": ("a", "Plot", "False", 2, 1),
    "3": ("b", "Temporal", "False", 3, 3),
    "4": ("b", "Plot", "True", 0, None),
    "5": ("c", "Plot", "True", 4, 4),
    "6": ("c", "Temporal", "True", 4, 0),
    "7": ("d", "Plot", "False", 1, "x"),
}
INFO = RunInfo(
    benchmark={"name": "cinepile", "source": "x.json", "sha256": "0" * 64, "items": 9},
    settings=EvalSettings(prompt="official", extractor="official", controls=("blind",)).to_dict(),
    model={
        "name": "org/model",
        "revision": "abc",
        "weights": None,
        "engine": "native",
        "device": "cpu",
        "dtype": "float32",
    },
    versions={"smolvideo": "0"},
    created="2026-01-02T03:04:05+00:00",
)


def make_run(folder: Path, *, worse: bool = False) -> RunFolder:
    items = [
        EvalItem(
            name,
            (video,),
            f"Why {name}? {HOSTILE}",
            ("one", "two", "three", "four", HOSTILE),
            right,
            {"category": category, "hard_split": hard},
            subtitles="<subtitle> hm",
        )
        for name, (video, category, hard, right, _) in CHOICES.items()
    ]
    run = RunFolder.open(folder, INFO, items)
    with run.answer_writer() as writer:
        for item in items:
            chosen = CHOICES[item.id][4]
            if worse and item.id in ("0", "3"):
                chosen = 2
            for condition in ("main", "blind"):
                writer.write(_answer(item, condition, 2 if condition == "blind" else chosen))
    with run.video_writer() as writer:
        look = clip_id(items[0])
        writer.write(EvalVideo(look, "a", "a.mp4", frame_times=(0.0, 1.5), strip=f"{look}.jpg"))
    picture = (ROOT / "tests" / "golden" / "nano-layout.txt").read_bytes()
    run.save_thumbnails(f"{look}.jpg", picture)
    return run


def _answer(item: EvalItem, condition, chosen) -> EvalAnswer:  # type: ignore[no-untyped-def]
    if chosen == "x":
        return EvalAnswer(item.id, condition, item.video, error="gone", error_kind="missing")
    if chosen is None:
        return EvalAnswer(item.id, condition, item.video, text="I am sorry", how="refusal")
    correct = chosen == item.answer_index
    return EvalAnswer(
        item.id,
        condition,
        item.video,
        text="ABCDE"[chosen],
        choice=chosen,
        correct=correct,
        how="letter",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return make_run(tmp_path / "run")


def test_scores_by_hand(run: RunFolder) -> None:
    report = build_report(run)
    overall = report.main.overall
    assert (overall.share.right, overall.share.answered, overall.total) == (4, 7, 8)
    assert overall.bounds is not None
    assert (overall.bounds.low, overall.bounds.high) == (4 / 8, 5 / 8)
    assert dict(overall.counts) == {"refusal": 1, "missing": 1}
    assert overall.unclear == 1
    assert overall.chance == pytest.approx(0.2)
    groups = report.main.groups
    assert (groups["category"]["Temporal"].share.value, groups["category"]["Plot"].share.value) == (
        3 / 4,
        1 / 3,
    )
    hard = groups["hard_split"]
    assert (hard["True"].share.right, hard["False"].share.right) == (2, 2)
    crossed = groups["category × hard_split"]  # noqa: RUF001
    assert crossed["Temporal × True"].share.value == 1 / 2  # noqa: RUF001
    assert report.conditions["blind"].overall.share.right == 1
    assert report.conditions["blind"].same_choice == 0.0
    assert (report.videos, report.videos_seen, report.complete) == (4, 3, False)
    json.dumps(report.to_dict(), allow_nan=False)


def test_unfinished_run_has_a_notice(run: RunFolder) -> None:
    lines = run.answers_path.read_bytes().splitlines(keepends=True)
    run.answers_path.write_bytes(b"".join(lines[:4]))
    overall = build_report(run).main.overall
    assert (overall.share.answered, overall.coverage) == (2, 0.25)
    assert overall.counts["missing"] == 6


def shown(show, *arguments, width: int = 80) -> str:  # type: ignore[no-untyped-def]
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    show(console, *arguments)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_charts_fit_the_terminal(run: RunFolder, width: int) -> None:
    text = shown(show_report, build_report(run), width=width)
    charts = [line for line in text.splitlines() if "●" in line]
    assert len(charts) > 8
    assert all(len(line) <= width for line in charts)
    assert "org/model on cinepile: 57.1 %" in text
    assert "CinePile's own protocol" in " ".join(text.split())
    assert re.search(r"Temporal +[━●─| ]+ 75\.0 %", text)
    assert "1 with no video" in text
    assert "if they were all wrong 50.0 %, all right 62.5 %" in " ".join(text.split())
    assert "1 refusal: counted as wrong" in text


def test_hostile_group_name_is_escaped(tmp_path: Path) -> None:
    item = EvalItem("0", ("a",), "Why?", ("one", "two"), 0, {"cat\n\x1b]0;title\x07egory": "x"})
    run = RunFolder.open(tmp_path / "run", INFO, [item])
    with run.answer_writer() as writer:
        writer.write(_answer(item, "main", 0))
    text = shown(show_report, build_report(run), width=80)
    assert "\x1b" not in text
    assert "cat egory" in text


def test_markdown_report(run: RunFolder) -> None:
    text = markdown_report(build_report(run))
    assert "| all | 57.1% |" in text
    assert "| Temporal | 75.0% |" in text
    assert "## hard split" in text
    # Answered questions by video: 3, 2, 2.
    assert re.search(r"\| all \| 57\.1% \|.*\| 3 \| 2\.9 \|\n", text)


def test_every_report_has_the_effective_number_of_videos(run: RunFolder) -> None:
    report = build_report(run)
    weighs = "clustered by video (3 videos that weigh like 2.9 of one size)"
    assert weighs in " ".join(shown(show_report, report).split())
    assert weighs in html_report(run)
    assert "(3 videos that weigh like 2.9 of one size)" in markdown_report(report).replace("\\", "")
    overall = report.to_dict()["conditions"]["main"]["overall"]
    assert overall["effective_videos"] == pytest.approx(49 / 17)
    rows = list(csv.DictReader(io.StringIO(csv_report(run))))
    worth = {row["condition"]: row["effective_videos"] for row in rows}
    assert worth == {"main": "2.9", "blind": "3.6"}, "blind, the fourth video has an answer too"
    assert "3 videos that weigh like 2.9 of one size" in shown(
        show_comparison, compare_runs(run, run, second_condition="blind"), width=110
    )


def test_csv_has_a_line_per_answer(run: RunFolder) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_report(run))))
    assert len(rows) == 16
    assert [row["correct"] for row in rows if row["condition"] == "main"] == list("11010100")
    assert rows[0]["group:category"] == "Temporal"
    assert rows[0]["question"] == f"Why 0? {HOSTILE}".replace("\x1b", "\\x1b")


def test_csv_escapes_formulas(tmp_path: Path) -> None:
    formulas = ["=HYPERLINK(1)", "+1+1", "-2+cmd()", "@SUM(A1)", "\t=1", "\n=1", "\uff1d1", "-1 -x"]
    plain = ["-3", "+1.5", "a=b", "'quoted", "", "-1.5 2e-3"]
    for place, text in enumerate([*formulas, *plain]):
        item = EvalItem(text or "none", ("@a",), "=1", (text or "x", "y"), 0, {"by": text or "-"})
        run = RunFolder.open(tmp_path / str(place), INFO, [item])
        with run.answer_writer() as writer:
            scores = (-1.5, -2.0) if text else None  # an answer with scores is one of the options
            writer.write(replace(_answer(item, "main", 0), text=text, scores=scores))
        (row,) = csv.DictReader(io.StringIO(csv_report(run), newline=""))
        expected = f"'{text}" if text in formulas else text
        assert row["text"] == expected
        assert (row["video"], row["question"]) == ("'@a", "'=1")
        if text:
            assert row["scores"] == "-1.5 -2.0"
            assert [row["id"], row["group:by"]] == [expected] * 2
            runs = text[0] in "=+-@\t\n\uff1d"
            assert row["options"] == (f"'{text} | y" if runs else f"{text} | y")


def test_csv_cells_have_no_active_content(tmp_path: Path) -> None:
    item = EvalItem("0", ("a",), "Which?", ("x", "y"), 0, {"=group": "\r=1"})
    run = RunFolder.open(tmp_path / "run", INFO, [item])
    formula = '=HYPERLINK("http://x")'
    with run.answer_writer() as writer:
        made = EvalAnswer(item.id, "main", item.video, how=formula, error=formula)
        writer.write(replace(made, error_kind="model"))
    (row,) = csv.DictReader(io.StringIO(csv_report(run), newline=""))
    assert [row[name] for name in ("how", "error")] == [f"'{formula}"] * 2
    assert row["error_kind"] == "model", "no other words are read"
    assert row["group:=group"] == r"\x0d=1", "a lone carriage return would write over the line"


class Page(HTMLParser):
    """Parser that collects the scripts of a page and every tag."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts.setdefault(self.tags[-1][1].get("id"), data)


def test_json_report_has_the_bounds(run: RunFolder) -> None:
    plain = build_report(run).to_dict()["conditions"]["main"]["overall"]
    assert plain["bounds"] == {"low": 4 / 8, "high": 5 / 8}
    assert (plain["right"], plain["answered"], plain["items"]) == (4, 7, 8)


def test_failed_answer_counts_no_tokens() -> None:
    failed = EvalAnswer("1", "main", "a", error="gone", error_kind="missing")
    assert json.loads(failed.to_json())["prompt_tokens"] == 0


def test_html_report_is_complete_and_escaped(run: RunFolder) -> None:
    page = Page()
    text = html_report(run)
    page.feed(text)
    data = json.loads(page.scripts["data"])
    assert len(data["items"]) == 8
    assert data["items"][0]["question"] == f"Why 0? {HOSTILE}", "shown as text by the script"
    assert data["items"][2]["answers"]["main"][:2] == [1, 0]
    assert [tag for tag, _ in page.tags].count("script") == 3, "data, one strip, the page's own"
    assert not [tag for tag, _ in page.tags if tag in ("img", "link", "iframe")]
    assert "http://" not in text.replace("http-equiv", "")
    assert "innerHTML" not in text
    strip = clip_id(run.items[0])
    assert f"strip-{strip}" in page.scripts


def test_html_report_of_five_thousand_items(tmp_path: Path) -> None:
    items = [
        EvalItem(str(n), (f"v{n // 20}",), "Why? " * 20, ("a", "b", "c", "d", "e"), n % 5)
        for n in range(5000)
    ]
    run = RunFolder.open(tmp_path / "run", INFO, items)
    answers = (_answer(item, "main", int(item.id) % 3) for item in items)
    run.answers_path.write_text("".join(answer.to_json() + "\n" for answer in answers))
    text = html_report(run)
    assert len(text) < 4_000_000
    assert text.count("<div") < 10, "rows are made when they come into view"


def test_export_writes_lmms_eval_files(run: RunFolder, tmp_path: Path) -> None:
    results, samples = export_lmms_eval(run, tmp_path / "out")
    assert results.name == "2026-01-02T03-04-05_results.json"
    assert results.parent.name == "org__model"
    assert samples.name == "2026-01-02T03-04-05_samples_cinepile.jsonl"
    scores = json.loads(results.read_text())["results"]["cinepile"]
    assert scores["cinepile_accuracy,none"] == pytest.approx(100 * 4 / 7)
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["doc_id"] for line in lines] == list(range(7))
    assert lines[1]["target"] == "B) two"
    assert lines[1]["filtered_resps"] == ["B"]
    assert lines[1]["cinepile_accuracy"]["correct"] == 1
    assert lines[0]["input"].startswith("You will be provided with subtitles")
    assert all(len(line["doc_hash"]) == 64 for line in lines)
    with pytest.raises(RecordError, match="exists already"):
        export_lmms_eval(run, tmp_path / "out")
    export_lmms_eval(run, tmp_path / "out", overwrite=True)


def test_comparison_of_two_runs(run: RunFolder, tmp_path: Path) -> None:
    other = make_run(tmp_path / "worse", worse=True)
    comparison = compare_runs(run, other)
    pair = comparison.overall
    assert (pair.questions, pair.only_first, pair.only_second) == (7, 2, 0)
    assert pair.difference == pytest.approx(2 / 7)
    assert pair.mcnemar_p == 0.5
    assert comparison.groups["category"]["Temporal"].only_first == 2
    assert (comparison.differences, comparison.left_out) == ((), 0)
    text = shown(show_comparison, comparison, width=110)
    assert re.search(r"all +57\.1 % +28\.6 % +\+28\.6", text)
    assert "p 0.500" in text
    assert "(they weigh like 2.9 of one size, and 5 are needed): no interval" in text
    assert "no p but McNemar's, which is too small where questions share a video" in text
    narrow = shown(show_comparison, comparison, width=80).split("McNemar")[0]
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "…" not in narrow.split("category")[0]
    blind = compare_runs(run, run, second_condition="blind")
    assert blind.second == "run (blind)"
    json.dumps(blind.to_dict(), allow_nan=False)


def test_comparison_of_equal_runs(run: RunFolder, tmp_path: Path) -> None:
    text = shown(show_comparison, compare_runs(run, make_run(tmp_path / "again")), width=110)
    assert "to +0.0" not in text
    assert re.search(r"all +57\.1 % +57\.1 % +\+0\.0 +- +- +7", text)
    assert "independent: p 1.000" in text
    assert "both are right on the same questions: no difference, and so no interval" in text


def test_comparison_of_runs_with_a_uniform_difference(tmp_path: Path) -> None:
    comparison = compare_runs(*runs_that_differ(tmp_path / "six", "abcdef"))
    text = shown(show_comparison, comparison, width=110)
    assert re.search(r"all +100\.0 % +0\.0 % +\+100\.0 +- +- +6", text)
    assert (
        "the difference is the same in every video: no interval, and no p but McNemar's\n" in text
    )
    assert "independent: p 0.031" in text, "2 / 2^6"
    assert (comparison.overall.p, comparison.overall.no_interval) == (None, "same in every video")
    two = compare_runs(*runs_that_differ(tmp_path / "two", "ab"))
    text = shown(show_comparison, two, width=110)
    assert re.search(r"all +100\.0 % +0\.0 % +\+100\.0 +- +- +2", text)
    assert "independent: p 0.500" in text
    assert "too few videos for more (5 are needed): no interval, and no p but McNemar's\n" in text
    plain = two.to_dict()["overall"]
    assert [plain[name] for name in ("p", "low", "high", "standard_error")] == [None] * 4
    assert (plain["no_interval"], plain["effective_videos"]) == ("too few videos", 2)


def runs_that_differ(folder: Path, videos: str) -> list[RunFolder]:
    """Return two runs: the first all right, the second all wrong; one question per video."""
    items = [EvalItem(name, (name,), "Which?", ("x", "y"), 0) for name in videos]
    runs = []
    for choice in (0, 1):
        runs.append(RunFolder.open(folder / str(choice), INFO, items))
        with runs[-1].answer_writer() as writer:
            for item in items:
                writer.write(_answer(item, "main", choice))
    return runs


def test_incomparable_runs_are_errors(run: RunFolder, tmp_path: Path) -> None:
    items = [EvalItem("0", ("a",), "Another?", ("x", "y"), 0)]
    other = RunFolder.open(tmp_path / "other", INFO, items)
    with pytest.raises(UsageError, match="no answers"):
        compare_runs(run, other)
    with other.answer_writer() as writer:
        writer.write(_answer(items[0], "main", 0))
    with pytest.raises(UsageError, match="different questions"):
        compare_runs(run, other)


def test_runs_with_other_right_answers_cannot_be_compared(run: RunFolder, tmp_path: Path) -> None:
    changed = [replace(item, answer_index=(item.answer_index + 1) % 5) for item in run.items]
    other = RunFolder.open(tmp_path / "other", INFO, changed)
    with other.answer_writer() as writer:
        writer.write(_answer(changed[0], "main", 0))
    with pytest.raises(UsageError, match="different questions"):
        compare_runs(run, other)


def test_comparison_names_files_with_other_content(tmp_path: Path) -> None:
    item = EvalItem("0", ("a",), "Which?", ("x", "y"), 0)
    runs = []
    for content in "ab":
        runs.append(RunFolder.open(tmp_path / content, INFO, [item]))
        with runs[-1].answer_writer() as writer:
            writer.write(replace(_answer(item, "main", 0), file="a.mp4", sha256=content * 64))
    assert compare_runs(*runs).differences == ("questions asked about files of another content: 1",)
    assert compare_runs(runs[0], runs[0]).differences == ()


def test_scored_options_have_a_reliability_diagram_in_every_format(tmp_path: Path) -> None:
    info = replace(INFO, settings=EvalSettings(scoring="options").to_dict())
    items = [
        EvalItem(str(n), (f"v{n % 4}",), "?", ("one", "two"), n % 2, {"category": "all"})
        for n in range(8)
    ]
    run = RunFolder.open(tmp_path / "scored", info, items)
    with run.answer_writer() as writer:
        for n, item in enumerate(items):
            # softmax of log-odds 2.1972 is 0.9; 6 of 8 choices are right
            choice = item.answer_index if n < 6 else 1 - item.answer_index
            scores = (0.0, -2.1972) if choice == 0 else (-2.1972, 0.0)
            writer.write(
                EvalAnswer(
                    item.id,
                    "main",
                    item.video,
                    text=item.options[choice],
                    choice=choice,
                    correct=choice == item.answer_index,
                    how="score",
                    scores=scores,
                )
            )
    report = build_report(run)
    found = report.main.reliability
    assert found is not None
    assert found.ece == pytest.approx(0.15, abs=1e-3)
    (filled,) = found.filled
    assert (filled.count, filled.accuracy) == (8, 0.75)
    plain = report.to_dict()["conditions"]["main"]["reliability"]
    assert plain["bins"][0]["confidence"] == pytest.approx(0.9, abs=1e-3)
    assert "| 90.0% | 75.0% | 8 |" in markdown_report(report)
    assert "accuracy by confidence" in html_report(run)
    console = Console(width=100, record=True, file=io.StringIO())
    show_report(console, report)
    shown = console.export_text()
    assert "main: ECE 0.150" in shown
    assert "75 % of 8 right" in shown


def test_generated_answers_have_no_reliability(run: RunFolder) -> None:
    report = build_report(run)
    assert report.main.reliability is None
    assert report.to_dict()["conditions"]["main"]["reliability"] is None
    assert "confidence" not in markdown_report(report)
