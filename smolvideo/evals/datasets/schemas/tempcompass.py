"""TempCompass, multiple choice: action, direction, speed, order and change of attributes.

Files: llyx97/TempCompass@87d5cf37, questions/multi-choice.json (video → aspect → questions, which
end with their options); the table with ``video_id`` and ``dim``, and the prompt:
EvolvingLMMs-Lab/lmms-eval@683a0a0c and 06f392e6, tasks/tempcompass.
``vlmevalkit`` prompt: open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/tempcompass.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import index_of_letter
from smolvideo.evals.datasets.schemas.schema import (
    RowPlace,
    Schema,
    dotted,
    split_question,
    text_groups,
)
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    InvalidRowError,
    Row,
    read_json,
    text_of,
)
from smolvideo.evals.item import EvalItem


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\nPlease directly give the best option:"


def _vlmevalkit(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}\n\nPlease directly give the best option:"


class TempCompass(Schema):
    name = "tempcompass"
    title = "TempCompass: what changes over time."
    help = (
        "Run TempCompass: two to four options on action, direction, speed, order and change.\n\n"
        "FILE is multi-choice.json or its table. Videos are found as `VIDEO.mp4`."
    )
    hub: ClassVar = {
        "main": HubFilePattern("lmms-lab/TempCompass", r"multi-choice/test-.*\.parquet")
    }
    lmms_eval_task = ("tempcompass-multi-choice", "avg_accuracy")
    prompts: ClassVar = {"lmms-eval": _lmms_eval, "vlmevalkit": _vlmevalkit}
    file_pattern = r"multi-choice\.json|test-.*\.parquet"

    def rows(self, file: Path) -> Sequence[Row]:
        content = read_json(file) if file.suffix.lower() == ".json" else None
        if not isinstance(content, Mapping) or not all(
            isinstance(aspects, Mapping) for aspects in content.values()
        ):
            return super().rows(file)
        return [
            {"video_id": video, "dim": aspect, **asked}
            for video, aspects in content.items()
            for aspect, questions in aspects.items()
            for asked in questions or ()
            if isinstance(asked, Mapping)
        ]

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        video = text_of(row, "video_id").strip()
        question, options = split_question(text_of(row, "question"))
        letter, _, answer = text_of(row, "answer").strip().partition(". ")
        index = index_of_letter(letter, options)
        if answer.strip() != options[index]:
            raise InvalidRowError(f"the right answer is not the text of option {letter}")
        groups = text_groups(row, "dim")
        return EvalItem(
            id=f"{video}/{groups.get('dim', '')}/{place.number}",
            video_names=(video,),
            question=question,
            options=options,
            answer_index=index,
            groups=groups,
        )
