"""EgoSchema: three minutes of first-person video; the answers of 500 questions are public.

A server knows the answers of all 5,031: it takes a JSON object of indices by ``q_uid``, as
lmms-eval's task ``egoschema`` writes it.

Files: https://github.com/egoschema/EgoSchema (questions.json, subset_answers.json) and
https://huggingface.co/datasets/lmms-lab/egoschema. Prompts: ``smolvlm``, that of MVBench;
``lmms-eval``, EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks/egoschema.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from smolvideo.errors import SourceError
from smolvideo.evals.datasets.option_notation import public_index, strip_option_letters
from smolvideo.evals.datasets.schemas.mvbench import smolvlm_prompt
from smolvideo.evals.datasets.schemas.schema import DIRECT_LETTER, RowPlace, Schema, dotted
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    InvalidRowError,
    Row,
    as_list,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem
from smolvideo.json_types import parse_json
from smolvideo.sanitize import display_path
from smolvideo.text_input import decode_text


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\n{DIRECT_LETTER}"


class EgoSchema(Schema):
    name = "egoschema"
    title = "EgoSchema: three minutes, first person."
    help = (
        "Run EgoSchema: five options on three minutes of first-person video.\n\n"
        "FILE is questions.json with subset_answers.json next to it, their folder, or the parquet "
        "of the subset. Videos are found as `q_uid.mp4`."
    )
    hub: ClassVar = {"main": HubFilePattern("lmms-lab/egoschema", r"Subset/test-.*\.parquet")}
    file_pattern = r"questions\.json"
    lmms_eval_task = ("egoschema_subset", "score")
    prompts: ClassVar = {"smolvlm": smolvlm_prompt, "lmms-eval": _lmms_eval}
    official_extractor = "lmms-eval:egoschema"

    def rows(self, file: Path) -> Sequence[Row]:
        answers = _public_answers(file)
        return [
            {**row, "answer": answers.get(_uid(row) or "", row.get("answer"))}
            for row in super().rows(file)
        ]

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        uid = _uid(row)
        if uid is None:
            raise InvalidRowError("has neither `q_uid` nor `video_idx`")
        if "option 0" in row:
            texts = [text_of(row, f"option {number}") for number in range(5)]
        else:
            texts = as_list(row, "option")
        options = strip_option_letters(texts)
        return EvalItem(
            id=uid,
            video_names=(uid,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=public_index(row, "answer", options),
        )

    def lmms_eval_metric(self, item: EvalItem, text: str, choice: int | None, correct: bool) -> Any:
        chosen = -1 if choice is None else choice
        right = None if item.answer_index is None else str(item.answer_index)
        return {"pred": chosen, "ground_truth": right}

    def lmms_eval_subtask(self, item: EvalItem | None, *, subtitle_files: bool) -> str:
        is_unlabelled = item is not None and item.answer_index is None
        return "egoschema" if is_unlabelled else "egoschema_subset"

    def submission(self, choices: Mapping[str, int]) -> str:
        return json.dumps(choices, indent=4) + "\n"


def _uid(row: Row) -> str | None:
    """The question's id, in the raw files or in the table."""
    return optional_text(row, "q_uid") or optional_text(row, "video_idx")


def _public_answers(file: Path) -> Mapping[str, object]:
    """Load the public answers from the file next to the questions; empty without one."""
    beside = file.with_name("subset_answers.json")
    if not beside.is_file():
        return {}
    try:
        content = parse_json(decode_text(beside.read_bytes()))
    except (OSError, ValueError) as error:
        raise SourceError(f"{display_path(beside)} cannot be understood: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{display_path(beside)} does not map questions to answers")
    return content
