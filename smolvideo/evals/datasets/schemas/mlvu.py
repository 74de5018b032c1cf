"""MLVU, multiple choice: a JSON file and a folder of videos for each of seven tasks.

Files: open-compass/VLMEvalKit@06d45c58, vlmeval/dataset/mlvu.py (``json/1_plotQA.json``, videos in
``video/1_plotQA``; tasks 8 and 9 have open answers); MLVU_dev, whose questions end with their
options, and the prompt: EvolvingLMMs-Lab/lmms-eval@54ad0f88, tasks/mlvu.
``vlmevalkit`` prompt: open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/mlvu.py.
"""

import re
from collections.abc import Sequence
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import (
    index_of_letter,
    index_of_text,
    validate_options,
)
from smolvideo.evals.datasets.schemas.schema import (
    WATCH_CAREFULLY,
    QuestionText,
    RowPlace,
    Schema,
    bracketed,
    split_question,
)
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    Row,
    as_list,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem

FOLDERS = (
    "1_plotQA",
    "2_needle",
    "3_ego",
    "4_count",
    "5_order",
    "6_anomaly_reco",
    "7_topic_reasoning",
)
"""Stems of the task files, and the names of their folders of videos."""


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{bracketed(options)}\nOnly give the best option.\nBest option: ("


def _vlmevalkit(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    listed = f"Question: {question}\nOptions:\n{bracketed(options)}"
    return QuestionText(WATCH_CAREFULLY, f"{listed}\n\nOnly give the best option.")


class Mlvu(Schema):
    name = "mlvu"
    title = "MLVU: long videos, seven tasks."
    help = (
        "Run MLVU: seven tasks with options on videos from three minutes to two hours.\n\n"
        "FILE is one task's .json (1_plotQA.json …), a folder of them, or the table of MLVU_dev. "
        "Videos are found in the folder of their task, as `1_plotQA/1.mp4`."
    )
    hub: ClassVar = {"main": HubFilePattern("MLVU/MVLU", r"MLVU/json/[1-7]_[^/]*\.json")}
    lmms_eval_task = ("mlvu_dev", "mlvu_percetion_score")
    prompts: ClassVar = {"lmms-eval": _lmms_eval, "vlmevalkit": _vlmevalkit}
    mean_over = "task"
    file_pattern = r"[1-7]_\w+\.json"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        question = text_of(row, "question").strip()
        video = text_of(row, "video" if "video" in row else "video_name").strip()
        if "candidates" in row:
            options = validate_options(as_list(row, "candidates"))
            answer = index_of_text(text_of(row, "answer"), options)
        else:
            question, options = split_question(question)
            answer = index_of_letter(row.get("answer"), options)
        folder = place.stem if place.stem in FOLDERS else None
        task = (
            re.sub(r"^\d+_", "", place.stem)
            if folder
            else optional_text(row, "task_type") or optional_text(row, "question_type")
        )
        names = (video,) if folder is None else (f"{folder}/{video}", video)
        return EvalItem(
            id=f"{place.stem}/{place.number}",
            video_names=names,
            question=question,
            options=options,
            answer_index=answer,
            groups={"task": task} if task else {},
            foreign_folders=tuple(one for one in FOLDERS if folder and one != folder),
        )
