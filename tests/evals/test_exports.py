"""Export for lmms-eval: tasks, metrics and prompts as in that tool.

The expected numbers are results of ``aggregate_results`` of lmms-eval 75571cfe on each benchmark's
samples.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.project import ROOT

from smolvideo.cli.main import cli
from smolvideo.evals.datasets.schemas.cinepile import CATEGORIES
from smolvideo.evals.item import EvalItem
from smolvideo.evals.lmms_eval import export_lmms_eval
from smolvideo.evals.run_folder import EvalAnswer, RunFolder, RunInfo
from smolvideo.evals.settings import EvalSettings

SAMPLES = ROOT / "samples"


def exported(
    tmp_path: Path, benchmark: str, items: list[EvalItem], chosen: list[int | None], **settings: Any
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """Export a run with the answers ``chosen``; return the results, and the samples by task."""
    info = RunInfo(
        {"name": benchmark, "source": "x.json", "sha256": "0" * 64, "items": 9},
        EvalSettings(prompt="lmms-eval", **settings).to_dict(),
        {"name": "m", "revision": "r", "engine": "native", "device": "cpu", "dtype": "float32"},
        {},
        created="2026-01-02T03:04:05+00:00",
    )
    run = RunFolder.open(tmp_path / "run", info, items)
    with run.answer_writer() as writer:
        for item, choice in zip(items, chosen, strict=True):
            text = "" if choice is None else "ABCDE"[choice]
            correct = choice == item.answer_index
            writer.write(EvalAnswer(item.id, "main", item.video, text, choice, correct, "letter"))
    results, *samples = export_lmms_eval(run, tmp_path / "out")
    tasks = {
        path.stem.partition("_samples_")[2]: [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in samples
    }
    return json.loads(results.read_text(encoding="utf-8")), tasks


def test_cinepile_categories_keep_their_line_break(tmp_path: Path) -> None:
    items = [
        EvalItem(
            str(number), ("v",), "Why?", tuple("vwxyz"), 0,
            {"category": " ".join(category.split()), "hard_split": str(number % 2 == 0)},
        )
        for number, category in enumerate(CATEGORIES)
    ]  # fmt: skip
    _, tasks = exported(tmp_path, "cinepile", items, [0, 1, 0, None, 0])
    scored = [line["cinepile_accuracy"] for line in tasks["cinepile"]]
    assert [one["question_category"] for one in scored] == list(CATEGORIES)
    assert [one["hard_split"] for one in scored] == ["True", "False", "True", "False", "True"]
    assert [one["correct"] for one in scored] == [1, 0, 1, 0, 1]
    assert (scored[1]["response_ext_number"], scored[1]["response_ext_text"]) == ("B", "")


def test_mvbench_is_a_group_of_tasks(tmp_path: Path) -> None:
    items = [
        EvalItem(f"{task}/{number}", ("v",), "Why?", ("x", "y"), 0, {"task": task})
        for task in ("action_count", "moving_direction")
        for number in range(2)
    ]
    results, tasks = exported(tmp_path, "mvbench", items, [0, 0, 0, 1])
    assert list(tasks) == ["mvbench_action_count", "mvbench_moving_direction"]
    scores = {name: one["mvbench_accuracy,none"] for name, one in results["results"].items()}
    assert scores == {"mvbench": 75, "mvbench_action_count": 100, "mvbench_moving_direction": 50}
    assert results["group_subtasks"] == {"mvbench": list(tasks)}
    assert results["n-samples"]["mvbench_action_count"] == {"original": 2, "effective": 2}
    last = tasks["mvbench_moving_direction"][-1]
    assert last["doc_id"] == "moving_direction/1"
    assert last["mvbench_accuracy"] == {"pred_answer": "B", "gt_answer": "A", "score": 0}


def test_video_mme_samples_have_the_fields_of_its_aggregate(tmp_path: Path) -> None:
    groups = {"duration": "long", "domain": "Knowledge", "sub_category": "Law", "task_type": "OCR"}
    items = [EvalItem(f"{n}-1", (f"v{n}",), "Why?", tuple("wxyz"), 2, groups) for n in range(3)]
    _, tasks = exported(tmp_path, "video-mme", items, [2, 1, None])
    scored = [line["videomme_perception_score"] for line in tasks["videomme"]]
    assert [(one["pred_answer"], one["answer"], one["score"]) for one in scored] == [
        ("C", "C", 1.0),
        ("B", "C", 0.0),
        ("", "C", 0.0),
    ]
    assert (scored[0]["category"], scored[0]["task_category"]) == ("Knowledge", "OCR")
    assert scored[1]["videoID"] == "v1"


def test_egoschema_samples_have_indices(tmp_path: Path) -> None:
    items = [EvalItem(f"q{n}", (f"q{n}",), "Why?", tuple("vwxyz"), 3) for n in range(3)]
    _, tasks = exported(tmp_path, "egoschema", items, [3, 0, None])
    assert [line["score"] for line in tasks["egoschema_subset"]] == [
        {"pred": 3, "ground_truth": "3"},
        {"pred": 0, "ground_truth": "3"},
        {"pred": -1, "ground_truth": "3"},
    ]


def test_run_without_answers_exports_no_score(tmp_path: Path) -> None:
    results, tasks = exported(tmp_path, "egoschema", [], [])
    assert tasks == {"egoschema_subset": []}
    assert results["results"]["egoschema_subset"]["score,none"] is None


@pytest.mark.parametrize(("choice", "heard"), [("all", True), ("none", False)])
def test_exported_prompt_has_the_subtitles_of_the_file(
    tmp_path: Path, choice: str, heard: bool
) -> None:
    """The prompt that was asked, not one built without the file."""
    row = {"videoID": "triangle_then_cross_subtitled", "question": "What is shown?", "answer": "B"}
    row |= {"question_id": "1-1", "options": ["A. dog", "B. cross", "C. cat", "D. cow"]}
    row |= {"duration": "short", "domain": "x", "sub_category": "y", "task_type": "z"}
    data = tmp_path / "test.json"
    data.write_text(json.dumps([row]))
    arguments = ["eval", "video-mme", str(data), "--videos", str(SAMPLES), "--model", "nano"]
    arguments += ["--prompt", "lmms-eval", "--max-frames", "2", "--max-new-tokens", "1"]
    arguments += ["--subtitles", choice, "--run", str(tmp_path / "run"), "--quiet"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.stderr
    done = CliRunner().invoke(cli, ["eval", "export", str(tmp_path / "run"), str(tmp_path / "out")])
    assert done.exit_code == 0, done.stderr
    _, samples = done.stdout.split()
    assert ("videomme_w_subtitle" in samples) == heard
    (line,) = map(json.loads, Path(samples).read_text(encoding="utf-8").splitlines())
    said = "This video's subtitles are listed below" in line["input"]
    assert said == heard
    (answer,) = map(json.loads, (tmp_path / "run" / "answers.jsonl").read_text().splitlines())
    if heard:
        assert answer["subtitles"] in line["input"]
        assert line["input"].endswith("The best answer is:")
    else:
        assert "subtitles" not in answer
