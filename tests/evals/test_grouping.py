"""Groups of items, means over groups, and questions without a public answer."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from smolvideo.cli.main import cli
from smolvideo.errors import SourceError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.grouping import group_items, parse_groupings
from smolvideo.evals.item import EvalItem
from smolvideo.evals.protocol import EXTRACTORS, extract
from smolvideo.evals.report_files import html_report, markdown_report
from smolvideo.evals.report_text import caveats
from smolvideo.evals.run_folder import EvalAnswer, RunFolder, RunInfo
from smolvideo.evals.scores import build_report
from smolvideo.evals.settings import EvalSettings

VIDEO_MME = [
    ("short", "Knowledge", "OCR", 0), ("short", "Knowledge", "Counting", 0),
    ("short", "Sports", "OCR", 1), ("long", "Knowledge", "OCR", 1), ("long", "Sports", "OCR", None),
]  # fmt: skip
"""Duration, domain, task and the choice; option 0 is right."""


def write_run(
    folder: Path, benchmark: str, items: Sequence[EvalItem], chosen: Sequence[int | None]
) -> RunFolder:
    info = RunInfo(
        {"name": benchmark, "source": "x.json", "sha256": "0" * 64, "items": len(items)},
        EvalSettings(prompt="lmms-eval").to_dict(),
        {"name": "m", "engine": "native", "device": "cpu", "dtype": "float32", "revision": "r"},
        {"smolvideo": "0"},
        created="2026-01-02T03:04:05+00:00",
    )  # fmt: skip
    run = RunFolder.open(folder, info, items)
    with run.answer_writer() as writer:
        for item, choice in zip(items, chosen, strict=True):
            letter = "?" if choice is None else "ABCDE"[choice]
            correct, how = choice is not None and choice == item.answer_index, "letter"
            how = "unparsable" if choice is None else how
            writer.write(EvalAnswer(item.id, "main", item.video, letter, choice, correct, how))
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    items = [
        EvalItem(
            f"{n}", (f"v{n}",), "Why?", ("w", "x", "y", "z"), 0,
            {"duration": duration, "domain": domain, "task_type": task},
        )
        for n, (duration, domain, task, _) in enumerate(VIDEO_MME)
    ]  # fmt: skip
    return write_run(tmp_path / "run", "video-mme", items, [one[-1] for one in VIDEO_MME])


def test_fields_are_crossed(run: RunFolder) -> None:
    groupings = parse_groupings(["duration, domain,task_type", "domain"], run.items)
    groups = build_report(run, groupings).main.groups
    assert list(groups) == ["duration × domain × task_type", "domain"]  # noqa: RUF001
    scores = {
        value: (one.share.right, one.total) for value, one in next(iter(groups.values())).items()
    }
    assert scores == {
        "long × Knowledge × OCR": (0, 1),  # noqa: RUF001
        "long × Sports × OCR": (0, 1),  # noqa: RUF001
        "short × Knowledge × Counting": (1, 1),  # noqa: RUF001
        "short × Knowledge × OCR": (1, 1),  # noqa: RUF001
        "short × Sports × OCR": (0, 1),  # noqa: RUF001
    }  # fmt: skip
    assert list(build_report(run).main.groups) == ["duration", "domain", "task_type"]
    assert "short × Sports" in html_report(run, groupings)  # noqa: RUF001


def test_report_command_takes_groups(run: RunFolder) -> None:
    def report(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["eval", "report", str(run.folder), *arguments])
        return done.exit_code, done.output

    code, text = report("--group", "duration,domain", "--format", "markdown")
    assert (code, text.count("## ")) == (0, 1)
    assert "| long × Knowledge | 0.0% |" in text  # noqa: RUF001
    for wrong, why in (
        ("nope", "no group field `nope` in these questions"),
        ("duration,", "`duration,` has an empty field name"),
        ("domain,domain", "`domain,domain` has the same field twice"),
        ("no\x1b[2Jpe", "no group field `nope`"),
    ):
        code, text = report("--group", wrong)
        assert code == 2
        assert why in text
    assert "hint: the fields: duration, domain, task_type" in report("--group", "nope")[1]
    code, text = report("--group", "domain", "--format", "csv")
    assert (code, "`--group` has no effect" in text) == (2, True)


_fields = st.dictionaries(st.sampled_from(["a", "b", "a,b", "c"]), st.sampled_from("xyz"))


@given(st.lists(_fields, max_size=8), st.sampled_from(["a", "a,b", "b,a", "c,b"]))
def test_groups_split_the_items_with_all_fields(fields: list[dict[str, str]], text: str) -> None:
    items = [EvalItem(str(n), ("v",), "?", ("x", "y"), 0, one) for n, one in enumerate(fields)]
    known = {name for one in fields for name in one}
    names = [text] if text in known else text.split(",")
    if not known.issuperset(names):
        with pytest.raises(UsageError, match="no group field"):
            parse_groupings([text], items)
        return
    groups = group_items(items, parse_groupings([text], items))
    members = [item.id for of in groups.values() for group in of.values() for item in group]
    assert sorted(members) == sorted(item.id for item in items if item.groups.keys() >= {*names})


def test_mean_over_tasks_weighs_them_equally(tmp_path: Path) -> None:
    chosen = {"action_count": [0, 0, 0, 1], "moving_count": [1, 1], "state_change": [0]}
    items = [
        EvalItem(f"{task}/{n}", (f"{task}{n}",), "Why?", ("x", "y"), 0, {"task": task})
        for task, of in chosen.items()
        for n in range(len(of))
    ]
    run = write_run(
        tmp_path / "run", "mvbench", items, [one for of in chosen.values() for one in of]
    )
    report = build_report(run)
    assert report.main.overall.share.value == pytest.approx(4 / 7)
    assert report.main.mean_of_groups is not None
    assert report.main.mean_of_groups.accuracy == pytest.approx((3 / 4 + 0 + 1) / 3)
    line = "main: mean over 3 groups by task, each with the same weight: 58.3 %"
    assert line in caveats(report)
    assert line in markdown_report(report)
    run.answers_path.write_text("".join(run.answers_path.read_text().splitlines(True)[:-1]))
    mean = build_report(run).main.mean_of_groups
    assert mean is not None
    assert (mean.answered, mean.groups) == (2, 3), "a task without answers is in no mean"


@pytest.fixture
def egoschema(tmp_path: Path) -> Path:
    questions = [
        {"q_uid": uid, "question": "Why?", **{f"option {n}": f"reason {n}" for n in range(5)}}
        for uid in ("aa-1", "bb-2", "cc-3", "dd-4")
    ]
    (tmp_path / "questions.json").write_text(json.dumps(questions))
    (tmp_path / "subset_answers.json").write_text(json.dumps({"aa-1": 3, "cc-3": 0}))
    return tmp_path


def test_full_egoschema_is_exported_as_submission(egoschema: Path) -> None:
    benchmark = load_benchmark("egoschema", egoschema, unlabelled=True)
    assert benchmark.notices == (
        "2 questions have no public answer and are asked, but in no score",
    )
    assert [item.answer_index for item in benchmark.items] == [3, None, 0, None]
    run = write_run(egoschema / "run", "egoschema", benchmark.items, [3, 4, 1, None])
    report = build_report(run)
    overall = report.main.overall
    assert (overall.share.right, overall.share.answered, overall.total) == (1, 2, 2)
    assert (report.unlabelled, report.unlabelled_answered, report.complete) == (2, 2, True)
    expected = "without a public answer, and so in no score: 2 more questions, 2 of them answered"
    assert expected in caveats(report)
    done = CliRunner().invoke(cli, ["eval", "export", str(run.folder), str(egoschema / "out")])
    assert done.exit_code == 0, done.output
    _, public, rest, submission = map(Path, done.stdout.split())
    assert submission.name == "2026-01-02T03-04-05_submission_egoschema.json"
    chosen = {"aa-1": 3, "bb-2": 4, "cc-3": 1, "dd-4": -1}
    assert submission.read_text() == json.dumps(chosen, indent=4) + "\n"
    assert (public.name[20:], rest.name[20:]) == (
        "samples_egoschema_subset.jsonl", "samples_egoschema.jsonl",
    )  # fmt: skip
    assert json.loads(rest.read_text().splitlines()[0])["score"] == {
        "pred": 4,
        "ground_truth": None,
    }


def test_missing_answers_to_unlabelled_questions_are_incomplete(egoschema: Path) -> None:
    items = load_benchmark("egoschema", egoschema, unlabelled=True).items
    run = write_run(egoschema / "run", "egoschema", items, [3, 4, 1, 2])
    run.answers_path.write_text("".join(run.answers_path.read_text().splitlines(True)[:-1]))
    report = build_report(run)
    assert (report.unlabelled_answered, report.complete) == (1, False)


def test_unlabelled_questions_alone_need_the_option(egoschema: Path) -> None:
    (egoschema / "subset_answers.json").write_text("{}")
    with pytest.raises(SourceError, match="can be used as") as raised:
        load_benchmark("egoschema", egoschema)
    assert "--unlabelled" in str(raised.value.hint)
    benchmark = load_benchmark("egoschema", egoschema, unlabelled=True)
    report = build_report(write_run(egoschema / "run", "egoschema", benchmark.items, [0] * 4))
    assert (report.main.overall.total, report.complete) == (0, True)
    assert "nothing answered" not in markdown_report(report)


@given(st.sampled_from(EXTRACTORS[2:]), st.text("ABCDE (). x", max_size=9), st.integers(0, 4))
def test_choice_does_not_depend_on_the_right_answer(extractor: str, text: str, index: int) -> None:
    options = ("one", "two", "three", "four", "x")
    labelled = extract(extractor, text, options, index)  # type: ignore[arg-type]
    unlabelled = extract(extractor, text, options, None)  # type: ignore[arg-type]
    assert unlabelled == (labelled.choice, False, labelled.method)
