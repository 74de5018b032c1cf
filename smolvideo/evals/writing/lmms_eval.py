"""A run in the files in which lmms-eval tells results.

EvolvingLMMs-Lab/lmms-eval@0716c69d, lmms_eval/loggers/evaluation_tracker.py:
``{model}/{date}_results.json`` and ``{model}/{date}_samples_{task}.jsonl``, one line per item with
``doc_id``, ``target``, ``filtered_resps``, ``doc_hash`` and the metric.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from smolvideo.evals.item import LETTERS, EvalItem
from smolvideo.evals.protocol import ask_item
from smolvideo.evals.run_folder import EvalAnswer, RunFolder
from smolvideo.evals.scores import report_of
from smolvideo.records import json_line, write_output

TASKS = {
    "cinepile": ("cinepile", "cinepile_accuracy"),
    "video-mme": ("videomme", "videomme_perception_score"),
    "mvbench": ("mvbench", "mvbench_accuracy"),
    "egoschema": ("egoschema_subset", "score"),
    "jsonl": ("smolvideo_jsonl", "accuracy"),
}
"""Benchmark → the name of the task and of its metric there."""


def export_lmms_eval(run: RunFolder, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write both files under ``folder``; items without an answer are not in them.

    Raises RecordError where they exist already or cannot be written.
    """
    info, report = run.info, report_of(run)
    task, metric = TASKS[info.benchmark["name"]]
    main = [one for one in run.answers().values() if one.condition == "main" and not one.failed]
    items = {item.id: item for item in run.items}
    lines = [_sample(items[one.id], one, run, metric) for one in main]
    share = report.main.overall.share
    results = {
        "results": {
            task: {
                "alias": task,
                f"{metric},none": 100 * share.value if share.value is not None else None,
                f"{metric}_stderr,none": (
                    100 * share.standard_error if share.standard_error is not None else "N/A"
                ),
                "samples": len(main),
            }
        },
        "group_subtasks": {task: []},
        "configs": {
            task: {
                "task": task,
                "test_split": "test",
                "output_type": "generate_until",
                "metadata": {"smolvideo": report.to_dict()},
            }
        },
        "versions": {task: 0.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {metric: True}},
        "n-samples": {task: {"original": info.benchmark["items"], "effective": len(main)}},
        "config": {
            "model": "smolvideo",
            "model_args": f"pretrained={info.model['name']},revision={info.model['revision']},"
            f"dtype={info.model['dtype']},quantise={info.model.get('quantise', 'none')},"
            f"max_frames={info.settings['sampling']['max_frames']}",
            "batch_size": 1,
            "device": info.model["device"],
            "limit": info.settings["limit"],
            "gen_kwargs": f"max_new_tokens={info.settings['generation']['max_new_tokens']}",
            "random_seed": info.settings["seed"],
        },
        "task_hashes": {task: _hash("".join(sample["doc_hash"] for sample in lines))},
        "model_source": "smolvideo",
        "model_name": info.model["name"],
        "model_name_sanitized": _plain(info.model["name"]),
        "date": info.created,
    }
    target = folder / _plain(info.model["name"])
    target.mkdir(parents=True, exist_ok=True)
    date = info.created.partition("+")[0].replace(":", "-")
    paths = [target / f"{date}_results.json", target / f"{date}_samples_{task}.jsonl"]
    text = json_line(results, indent=2) + "\n"
    write_output(paths[0], text, overwrite=overwrite)
    samples = "".join(json_line(sample) + "\n" for sample in lines)
    write_output(paths[1], samples, overwrite=overwrite)
    return paths


def _sample(item: EvalItem, answer: EvalAnswer, run: RunFolder, metric: str) -> dict[str, Any]:
    benchmark, settings = run.info.benchmark["name"], run.info.settings
    subtitles = None if settings["subtitles"] == "none" else item.subtitles
    asked = ask_item(settings["prompt"], benchmark, item.question, item.options, subtitles)
    letter, text = LETTERS[item.answer_index], item.options[item.answer_index]
    target = f"{letter}) {text}" if benchmark == "cinepile" else letter
    doc = {
        "question": item.question,
        "choices": list(item.options),
        "answer": letter,
        "video": item.video,
        **item.groups,
    }
    told = {
        "question": item.question,
        "question_category": item.groups.get("category"),
        "hard_split": item.groups.get("hard_split"),
        "correct": int(answer.correct),
        "answer": letter,
        "raw_response": answer.text,
        "response_ext_number": None if answer.choice is None else LETTERS[answer.choice],
    }
    return {
        "doc_id": int(item.id) if item.id.isdecimal() else item.id,
        "target": target,
        "resps": [[answer.text]],
        "filtered_resps": [answer.text],
        "input": asked.text,
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False, indent=2)),
        "prompt_hash": _hash(asked.text),
        "target_hash": _hash(target),
        metric: told if benchmark == "cinepile" else float(answer.correct),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(name: str) -> str:
    """A model's name as a folder: ``org/name`` is ``org__name``."""
    named = name.replace("/", "__")
    return (
        "".join(c if c.isalnum() or c in "-_." else "_" for c in named).lstrip(".")[-120:]
        or "model"
    )
