"""Export of a run to lmms-eval's result files.

EvolvingLMMs-Lab/lmms-eval@75571cfe, lmms_eval/loggers/evaluation_tracker.py:
``{model}/{date}_results.json`` and ``{model}/{date}_samples_{task}.jsonl``, one line per item with
``doc_id``, ``target``, ``filtered_resps``, ``doc_hash`` and the metric, which has the format of the
task's own ``process_results``, so that its ``aggregate_results`` accepts it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.datasets.schemas.schema import Schema
from smolvideo.evals.item import EvalItem
from smolvideo.evals.protocol import format_question
from smolvideo.evals.run_folder import EvalAnswer, RunFolder, RunInfo
from smolvideo.evals.scores import EvalReport, build_report
from smolvideo.files import make_folders
from smolvideo.records import json_line, write_text_atomic


class _Sample(NamedTuple):
    task: str
    line: dict[str, Any]
    correct: bool
    is_labelled: bool


def export_lmms_eval(run: RunFolder, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the results and the samples of each task below ``folder``; return their paths.

    MVBench is a group of twenty tasks. A run with questions without a public answer also writes the
    submission for the benchmark's server, if it has one, with -1 for an answer without a choice.
    Items without an answer are left out. Raises RecordError if
    a file exists already or cannot be written.
    """
    info = run.info
    group, metric = _schema_of(run).lmms_eval_task
    items = {item.id: item for item in run.items}
    main = [one for one in run.answers().values() if one.condition == "main" and not one.failed]
    samples = [_sample(items[one.id], one, run) for one in main]
    tasks = {
        task: [one for one in samples if one.task == task]
        for task in dict.fromkeys(one.task for one in samples)
    } or {_task_of(None, run): []}
    target = folder / _plain(info.model["name"])
    make_folders(target)
    date = info.created.partition("+")[0].replace(":", "-")
    results = _results(run, build_report(run), tasks, group if group not in tasks else None, metric)
    path = target / f"{date}_results.json"
    write_text_atomic(path, json_line(results, indent=2) + "\n", overwrite=overwrite)
    paths = [path]
    for task, lines in tasks.items():
        paths.append(target / f"{date}_samples_{_plain(task)}.jsonl")
        text = "".join(json_line(one.line) + "\n" for one in lines)
        write_text_atomic(paths[-1], text, overwrite=overwrite)
    submission = _schema_of(run).submission(
        {one.id: -1 if one.choice is None else one.choice for one in main}
    )
    if submission is not None and any(item.answer_index is None for item in run.items):
        paths.append(target / f"{date}_submission_{info.benchmark['name']}.json")
        write_text_atomic(paths[-1], submission, overwrite=overwrite)
    return paths


def _results(
    run: RunFolder,
    report: EvalReport,
    tasks: dict[str, list[_Sample]],
    group: str | None,
    metric: str,
) -> dict[str, Any]:
    info, share = run.info, report.main.overall.share
    names = [group, *tasks] if group and len(tasks) > 1 else list(tasks)
    overall = {
        f"{metric},none": 100 * share.value if share.value is not None else None,
        f"{metric}_stderr,none": (
            100 * share.standard_error if share.standard_error is not None else "N/A"
        ),
        "samples": sum(map(len, tasks.values())),
    }
    scores = {
        name: {"alias": name} | (overall if name == names[0] else _mean(tasks[name], metric))
        for name in names
    }
    return {
        "results": scores,
        "group_subtasks": {names[0]: names[1:]},
        "configs": {
            name: {
                "task": name,
                "test_split": "test",
                "output_type": "generate_until",
                "metadata": {"smolvideo": report.to_dict()} if name == names[0] else {},
            }
            for name in names
        },
        "versions": dict.fromkeys(names, 0.0),
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {name: {metric: True} for name in names},
        "n-samples": {
            name: {
                "original": _asked(run, name, names),
                "effective": len(tasks[name]) if name in tasks else overall["samples"],
            }
            for name in names
        },
        "config": _config(info),
        "task_hashes": {
            task: _hash("".join(one.line["doc_hash"] for one in lines))
            for task, lines in tasks.items()
        },
        "model_source": "smolvideo",
        "model_name": info.model["name"],
        "model_name_sanitized": _plain(info.model["name"]),
        "date": info.created,
    }


def _config(info: RunInfo) -> dict[str, Any]:
    """Return the arguments of the run in lmms-eval's names."""
    return {
        "model": "smolvideo",
        "model_args": f"pretrained={info.model['name']},revision={info.model['revision']},"
        f"dtype={info.model['dtype']},quantize={info.model.get('quantize', 'none')},"
        f"arithmetic={info.model.get('arithmetic', 'float')},"
        f"max_frames={info.settings['sampling']['max_frames']}",
        "batch_size": 1,
        "device": info.model["device"],
        "limit": info.settings["limit"],
        "gen_kwargs": f"max_new_tokens={info.settings['generation']['max_new_tokens']}",
        "random_seed": info.settings["seed"],
    }


def _mean(samples: Sequence[_Sample], metric: str) -> dict[str, Any]:
    correct = [one.correct for one in samples if one.is_labelled]
    return {
        f"{metric},none": 100 * sum(correct) / len(correct) if correct else None,
        f"{metric}_stderr,none": "N/A",
        "samples": len(samples),
    }


def _asked(run: RunFolder, name: str, names: Sequence[str]) -> int:
    """Number of items: the whole benchmark for the first name, else the task's items in the run."""
    if name == names[0]:
        return int(run.info.benchmark["items"])
    return sum(_task_of(item, run) == name for item in run.items)


def _task_of(item: EvalItem | None, run: RunFolder) -> str:
    """Name of the lmms-eval task that contains an item."""
    subtitle_files = run.info.settings["subtitles"] in ("all", "frames")
    return _schema_of(run).lmms_eval_subtask(item, subtitle_files=subtitle_files)


def _schema_of(run: RunFolder) -> Schema:
    return SCHEMAS[run.info.benchmark["name"]]


def _sample(item: EvalItem, answer: EvalAnswer, run: RunFolder) -> _Sample:
    schema, settings = _schema_of(run), run.info.settings
    subtitles = answer.subtitles
    if subtitles is None and settings["subtitles"] != "none":
        subtitles = item.subtitles
    asked = format_question(settings["prompt"], schema.name, item.question, item.options, subtitles)
    target = schema.lmms_eval_target(item)
    # Official rules differ from `choice`: their verdict counts.
    contradicts = item.answer_index is not None and answer.choice == item.answer_index
    choice = item.answer_index if answer.correct else None if contradicts else answer.choice
    doc = {
        "question": item.question,
        "choices": list(item.options),
        "answer": item.answer_letter,
        "video": item.video,
        **item.groups,
    }
    line = {
        "doc_id": int(item.id) if item.id.isdecimal() else item.id,
        "target": target,
        "resps": [[answer.text]],
        "filtered_resps": [answer.text],
        "input": asked.text,
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False, indent=2)),
        "prompt_hash": _hash(asked.text),
        "target_hash": _hash(target),
        schema.lmms_eval_task[1]: schema.lmms_eval_metric(
            item, answer.text or "", choice, answer.correct
        ),
    }
    return _Sample(
        _task_of(item, run), line, answer.correct, is_labelled=item.answer_index is not None
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(name: str) -> str:
    """Convert a model name to a folder name: ``org/name`` is ``org__name``."""
    named = name.replace("/", "__")
    return (
        "".join(c if c.isalnum() or c in "-_." else "_" for c in named).lstrip(".")[-120:]
        or "model"
    )
