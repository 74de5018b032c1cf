"""LongVideoBench: questions that refer to a moment of a video, in four groups of durations.

Columns and prompt: EvolvingLMMs-Lab/lmms-eval@03a5823f, tasks/longvideobench (``option0`` to
``option4``, unused ones ``N/A``); the JSON file ``lvb_val.json`` has ``candidates`` instead. Its
subtitles are JSON files, which are not read.
``vlmevalkit`` prompt: open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/longvideobench.py.
"""

from collections.abc import Sequence
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import public_index, validate_options
from smolvideo.evals.datasets.schemas.schema import (
    DIRECT_LETTER,
    RowPlace,
    Schema,
    dotted,
    text_groups,
)
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    Row,
    as_list,
    text_of,
)
from smolvideo.evals.item import EvalItem


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\n{DIRECT_LETTER}\n"


def _vlmevalkit(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\n{DIRECT_LETTER}"


class LongVideoBench(Schema):
    name = "longvideobench"
    title = "LongVideoBench: up to an hour, questions about a moment."
    help = (
        "Run LongVideoBench: up to five options on videos from eight seconds to an hour.\n\n"
        "FILE is lvb_val.json or the validation table. Videos are found by their `video_path`; its "
        "subtitles are JSON files, which are not read."
    )
    hub: ClassVar = {"main": HubFilePattern("longvideobench/LongVideoBench", r"lvb_val\.json")}
    lmms_eval_task = ("longvideobench_val_v", "lvb_acc")
    prompts: ClassVar = {"lmms-eval": _lmms_eval, "vlmevalkit": _vlmevalkit}
    file_pattern = r"lvb_val\.json|validation-.*\.parquet"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        options = validate_options(_options(row))
        return EvalItem(
            id=text_of(row, "id").strip(),
            video_names=(text_of(row, "video_path").strip(),),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=public_index(row, "correct_choice", options),
            groups=text_groups(
                row, "duration_group", "question_category", "level", "topic_category"
            ),
        )


def _options(row: Row) -> list[str]:
    if "candidates" in row:
        return as_list(row, "candidates")
    given = [row.get(f"option{place}") for place in range(5)]
    return [str(one) for one in given if one not in (None, "", "N/A")]
