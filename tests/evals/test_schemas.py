"""Schemas of the further benchmarks: handmade files as published, and their prompts."""

import csv
import json
import os
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.project import ROOT

from smolvideo.errors import SourceError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.datasets.registry import SCHEMAS, BenchmarkName
from smolvideo.evals.datasets.schemas.schema import bracketed, dotted, split_question
from smolvideo.evals.datasets.table_files import InvalidRowError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.protocol import EXTRACTORS, PROMPTS, format_question
from smolvideo.evals.protocol.prompts import default_prompt


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def prompt_of(benchmark: str, item: EvalItem, subtitles: str | None = None) -> str:
    asked = format_question("lmms-eval", benchmark, item.question, item.options, subtitles)
    assert asked.instruction == ""
    return asked.text


def test_registry_has_every_name_in_order() -> None:
    assert get_args(BenchmarkName) == tuple(SCHEMAS)
    assert all(schema.name == name and schema.help for name, schema in SCHEMAS.items())
    assert [name for name, schema in SCHEMAS.items() if not schema.hub] == ["jsonl"]
    tasks = [schema.lmms_eval_task[0] for schema in SCHEMAS.values()]
    assert len({*tasks}) == len(tasks)


def test_default_prompt_is_that_of_smolvlms_authors() -> None:
    own = [name for name in SCHEMAS if default_prompt(name) == "smolvlm"]
    assert own == ["cinepile", "video-mme", "mvbench", "egoschema", "jsonl"]
    assert {default_prompt(name) for name in SCHEMAS.keys() - set(own)} == {"lmms-eval"}


def test_prompts_and_extractors_of_schemas_have_known_names() -> None:
    for schema in SCHEMAS.values():
        assert set(schema.prompts) <= set(PROMPTS)
        assert schema.official_extractor in (None, *EXTRACTORS)


@pytest.mark.parametrize("record", ["eval-run", "eval-report"])
def test_record_schemas_know_every_benchmark(record: str) -> None:
    path = ROOT / "smolvideo" / "schemas" / f"{record}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    known = content["$defs"]["benchmark"]["properties"]["name"]
    if os.environ.get("SMOLVIDEO_UPDATE_GOLDEN"):
        known["enum"] = list(SCHEMAS)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    assert known["enum"] == list(SCHEMAS), (
        "SMOLVIDEO_UPDATE_GOLDEN=1 pytest tests/evals/test_schemas.py mends it"
    )


def test_mlvu(tmp_path: Path) -> None:
    row = {
        "video": "1.mp4",
        "duration": 480.0,
        "question": "What colour is the car?",
        "candidates": ["Red", "Blue", "Green", "Black"],
        "answer": "Blue",
        "question_type": "plotQA",
    }
    for stem in ("1_plotQA", "2_needle"):
        write(tmp_path / f"{stem}.json", [row, row | {"answer": "Grey"}])
    write(tmp_path / "9_summary.json", [{"video": "1.mp4", "question": "Sum up.", "answer": "…"}])
    benchmark = load_benchmark("mlvu", tmp_path)
    plot, needle = benchmark.items
    assert (plot.id, plot.groups, plot.answer_index) == ("1_plotQA/0", {"task": "plotQA"}, 1)
    assert plot.video_names == ("1_plotQA/1.mp4", "1.mp4")
    assert needle.video_names == ("2_needle/1.mp4", "1.mp4"), "the same name, another video"
    assert "2_needle" in plot.foreign_folders
    assert "1_plotQA" not in plot.foreign_folders
    (notice,) = benchmark.notices
    assert notice.startswith("2 rows are left out: 1_plotQA.json, row 2: the right answer is 0")
    expected = (
        "What colour is the car?\n(A) Red\n(B) Blue\n(C) Green\n(D) Black\n"
        "Only give the best option.\nBest option: ("
    )
    assert prompt_of("mlvu", plot) == expected
    dev = {
        "video_name": "needle_1.mp4",
        "question": "What colour is the car?\n(A) Red\n(B) Blue\n(C) Green\n(D) Black",
        "answer": "B",
        "task_type": "needle",
    }
    (item,) = load_benchmark("mlvu", write(tmp_path / "dev" / "test.json", [dev])).items
    assert (item.options, item.answer_index, item.groups) == (plot.options, 1, {"task": "needle"})
    assert prompt_of("mlvu", item) == expected


def test_longvideobench(tmp_path: Path) -> None:
    row = {
        "id": "86CxyhFV9MI_0",
        "video_id": "86CxyhFV9MI",
        "video_path": "86CxyhFV9MI.mp4",
        "subtitle_path": "86CxyhFV9MI_en.json",
        "question": "When the sky is red, what appears?",
        "candidates": ["A boat", "A bird"],
        "correct_choice": 1,
        "duration_group": 600,
        "question_category": "TOS",
        "level": "L2-Relation",
        "topic_category": "NP-News-Programs",
    }
    hidden = {key: value for key, value in row.items() if key != "correct_choice"}
    path = write(tmp_path / "lvb_val.json", [row, hidden | {"id": "86CxyhFV9MI_1"}])
    benchmark = load_benchmark("longvideobench", path.parent)
    (item,) = benchmark.items
    assert benchmark.notices == ("1 questions have no public answer and are left out",)
    assert (item.id, item.video, item.answer_index) == ("86CxyhFV9MI_0", "86CxyhFV9MI.mp4", 1)
    assert item.groups == {
        "duration_group": "600",
        "question_category": "TOS",
        "level": "L2-Relation",
        "topic_category": "NP-News-Programs",
    }
    assert prompt_of("longvideobench", item) == (
        "When the sky is red, what appears?\nA. A boat\nB. A bird\n"
        "Answer with the option's letter from the given choices directly.\n"
    )
    options = {"option0": "A boat", "option1": "A bird", "option2": "N/A", "option3": "N/A"}
    table = {key: value for key, value in row.items() if key != "candidates"} | options
    (other,) = load_benchmark("longvideobench", write(tmp_path / "table.json", [table])).items
    assert other == item


def test_tempcompass(tmp_path: Path) -> None:
    question = "What is the man doing?\nA. dunking a basketball\nB. passing a basketball"
    right = {"question": question, "answer": "B. passing a basketball"}
    wrong = {"question": question, "answer": "B. dunking a basketball"}
    content = {"1034419625": {"action": [right], "speed": None}, "1_reverse": {"action": [wrong]}}
    benchmark = load_benchmark("tempcompass", write(tmp_path / "multi-choice.json", content))
    (item,) = benchmark.items
    assert "row 2: the right answer is not the text of option B" in benchmark.notices[0]
    assert (item.id, item.video) == ("1034419625/action/0", "1034419625")
    assert (item.options[item.answer_index], item.groups) == (
        "passing a basketball",
        {"dim": "action"},
    )
    assert prompt_of("tempcompass", item) == f"{question}\nPlease directly give the best option:"
    table = [{"video_id": "1034419625", "dim": "action", **right}]
    assert load_benchmark("tempcompass", write(tmp_path / "t.json", table)).items == (item,)


WORLDSENSE = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, "
    "select the best option that accurately addresses the question.\n"
    "These are the frames of a video{shown}Select the best answer to the following "
    "multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of "
    "the correct option.\nWho sings?\nA. a man\nB. a woman\nC. a child\nD. none\n"
)


def test_worldsense(tmp_path: Path) -> None:
    task = {
        "task_domain": "Recognition",
        "task_type": "Audio Recognition",
        "question": "Who sings?",
        "answer": "C",
        "candidates": ["A. a man", "B. a woman", "C. a child", "D. none"],
    }
    about = {
        "video_id": "AbC",
        "duration": "<1min",
        "domain": "Music",
        "sub_category": "Choir",
        "audio_class": ["Speech", "Music"],
        "video_caption": "SECRET",
    }
    content = {"AbC": about | {"task0": task, "task1": task | {"answer": "A"}}}
    benchmark = load_benchmark("worldsense", write(tmp_path / "worldsense_qa.json", content))
    first, second = benchmark.items
    assert (first.video_names, first.subtitle_names) == (("AbC",), ("AbC.srt",))
    assert (first.id, first.answer_index, second.id, second.answer_index) == ("0", 2, "1", 0)
    assert first.groups == {
        "task_domain": "Recognition",
        "task_type": "Audio Recognition",
        "domain": "Music",
        "sub_category": "Choir",
        "duration": "<1min",
    }
    assert "SECRET" not in repr(benchmark), "the caption answers the question"
    assert prompt_of("worldsense", first) == WORLDSENSE.format(
        shown=" and the corresponding audio. "
    )
    listed = '. This video\'s subtitles are listed below:\n"La la."\n'
    assert prompt_of("worldsense", first, "La la.") == WORLDSENSE.format(shown=listed)
    path = tmp_path / "WorldSense.tsv"
    row = {"index": 0, "video": "AbC", **about, **task, "candidates": str(task["candidates"])}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row, delimiter="\t")
        writer.writeheader()
        writer.writerow(row)
    assert load_benchmark("worldsense", path).items == (first,)


def test_nextqa(tmp_path: Path) -> None:
    path = tmp_path / "val.csv"
    path.write_text(
        "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
        "4010069381,369,640,480,how do they play,0,6,CH,roll it,tap it,strum it,hit it,pat it\n"
        '2574374895,719,320,240,"what did he do, then",4,6,TN,clap,sit,lay,pick,crawl\n'
    )
    first, second = load_benchmark("nextqa", path).items
    assert (first.id, first.video) == ("4010069381/6", "4010069381")
    assert first.groups == {"type": "CH", "kind": "causal"}
    assert second.groups == {"type": "TN", "kind": "temporal"}
    assert second.options[second.answer_index] == "crawl"
    assert prompt_of("nextqa", second) == (
        "what did he do, then\nA. clap\nB. sit\nC. lay\nD. pick\nE. crawl"
    )


def test_perceptiontest(tmp_path: Path) -> None:
    asked = {
        "id": 0,
        "question": "Is the camera moving or static?",
        "options": ["I don't know", "moving", "static or shaking"],
        "answer_id": 2,
        "area": "physics",
        "reasoning": "descriptive",
        "tag": ["motion"],
    }
    hidden = {key: value for key, value in asked.items() if key != "answer_id"} | {"id": 1}
    about = {"metadata": {"video_id": "video_10909", "split": "valid"}}
    content = {"video_10909": about | {"mc_question": [asked, hidden]}}
    path = write(tmp_path / "mc_question_valid.json", content)
    benchmark = load_benchmark("perceptiontest", path)
    (item,) = benchmark.items
    assert benchmark.notices == ("1 questions have no public answer and are left out",)
    assert (item.id, item.video, item.answer_index) == ("video_10909/0", "video_10909", 2)
    assert item.groups == {"area": "physics", "reasoning": "descriptive"}
    assert prompt_of("perceptiontest", item) == (
        "Is the camera moving or static?\nA. I don't know\nB. moving\nC. static or shaking\n"
        "Answer with the option's letter from the given choices directly."
    )
    table = asked | {"video_name": "video_10909", "question_id": "0", "answer_id": "2"}
    assert load_benchmark("perceptiontest", write(tmp_path / "t.json", [table])).items == (item,)


def test_lvbench(tmp_path: Path) -> None:
    question = "What year appears?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633"
    line = {
        "key": "Cm73ma6Ibcs",
        "qa": [
            {
                "uid": "0",
                "question": question,
                "answer": "D",
                "question_type": ["key information retrieval", "reasoning"],
                "time_reference": "00:15-00:19",
            }
        ],
        "type": "cartoon",
        "video_info": {"duration_minutes": 40.0},
    }
    (tmp_path / "video_info.meta.jsonl").write_text(json.dumps(line) + "\n")
    (item,) = load_benchmark("lvbench", tmp_path).items
    assert (item.id, item.video, item.answer_index) == ("0", "Cm73ma6Ibcs", 3)
    assert item.groups == {
        "key information retrieval": "yes",
        "reasoning": "yes",
        "video type": "cartoon",
    }
    assert item.url == "https://www.youtube.com/watch?v=Cm73ma6Ibcs"
    expected = f"{question}\nAnswer the question with the option letter"
    assert prompt_of("lvbench", item) == expected


def test_mmvu(tmp_path: Path) -> None:
    folder = "https://huggingface.co/datasets/yale-nlp/MMVU/resolve/main/videos"
    choices = {"A": "10.0", "B": "5.0", "C": "12.0", "D": "15.0", "E": "20.0"}
    row = {
        "id": "validation_1",
        "video": f"{folder}/Materials_Science/0.mp4",
        "youtube_url": "https://www.youtube.com/watch?v=6HuyUxJBY3E",
        "question_type": "multiple-choice",
        "metadata": {"subject": "Materials Science", "rationale": "SECRET"},
        "question": "How many grams?",
        "choices": choices,
        "answer": "A",
    }
    empty = dict.fromkeys(choices, "")
    opened = {"id": "validation_2", "question_type": "open-ended", "choices": empty, "answer": "x"}
    benchmark = load_benchmark("mmvu", write(tmp_path / "validation.json", [row, row | opened]))
    (item,) = benchmark.items
    assert "1 row is left out: validation.json, row 2: is open-ended" in benchmark.notices[0]
    assert item.video_names == ("Materials_Science/0.mp4",), "each subject counts from 0"
    assert item.groups == {"subject": "Materials Science"}
    assert "SECRET" not in repr(benchmark)
    assert prompt_of("mmvu", item) == (
        "\nQuestion:How many grams?\nA: 10.0\nB: 5.0\nC: 12.0\nD: 15.0\nE: 20.0\n"
        "Visual Information: processed video\nDo not generate any intermediate reasoning process. "
        "Answer directly with the option letter from the\ngiven choices.\n"
    )


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize(
    "content", [[{}], {"a": {"b": "c"}}, {"a": 1}, [], 3, {"a": {"task0": {}}}]
)
def test_files_of_something_else_are_errors(name: Any, content: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        load_benchmark(name, write(tmp_path / "x.json", content))


_texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1)


@given(_texts, st.lists(_texts, min_size=2, max_size=9))
def test_split_question_inverts_listing(question: str, options: list[str]) -> None:
    for listed in (dotted(options), bracketed(options)):
        assert split_question(f"{question}\n{listed}") == (question, tuple(options))


@pytest.mark.parametrize("text", ["", "Which?", "A. red\nB. blue", "Which?\nB. red\nC. blue"])
def test_questions_without_options_are_errors(text: str) -> None:
    with pytest.raises(InvalidRowError):
        split_question(text)
