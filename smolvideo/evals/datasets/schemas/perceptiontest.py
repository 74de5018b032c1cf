"""Perception Test, multiple choice: memory, abstraction, physics and semantics.

Files: ``mc_question_valid.json`` (video → ``metadata`` and ``mc_question``, a list with ``id``,
``options``, ``answer_id`` …); fields as in copies of its dataset class. The table, and the prompt:
EvolvingLMMs-Lab/lmms-eval@06f392e6, tasks/perceptiontest/val.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
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
    read_json,
    text_of,
)
from smolvideo.evals.item import EvalItem


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\n{DIRECT_LETTER}"


class PerceptionTest(Schema):
    name = "perceptiontest"
    title = "Perception Test: memory, abstraction, physics, semantics."
    help = (
        "Run the Perception Test's multiple choice: three options on half a minute of video.\n\n"
        "FILE is mc_question_valid.json or the validation table. Videos are found as `VIDEO.mp4`."
    )
    hub: ClassVar = {
        "main": HubFilePattern(
            "lmms-lab/PerceptionTest_Val", r"mc_question_val/validation-.*\.parquet"
        )
    }
    lmms_eval_task = ("perceptiontest_val_mc", "accuracy")
    prompts: ClassVar = {"lmms-eval": _lmms_eval}
    file_pattern = r"mc_question_valid\.json|validation-.*\.parquet"

    def rows(self, file: Path) -> Sequence[Row]:
        content = read_json(file) if file.suffix.lower() == ".json" else None
        if not isinstance(content, Mapping) or not all(
            isinstance(about, Mapping) and isinstance(about.get("mc_question"), list)
            for about in content.values()
        ):
            return super().rows(file)
        return [
            {"video_name": video, "question_id": asked.get("id"), **asked}
            for video, about in content.items()
            for asked in about["mc_question"]
            if isinstance(asked, Mapping)
        ]

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        video = text_of(row, "video_name").strip()
        options = validate_options(as_list(row, "options"))
        return EvalItem(
            id=f"{video}/{text_of(row, 'question_id').strip()}",
            video_names=(video,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=public_index(row, "answer_id", options),
            groups=text_groups(row, "area", "reasoning"),
        )
