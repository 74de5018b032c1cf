"""WorldSense: everyday videos, with questions about what is seen and heard; sound is not read.

Files: open-compass/VLMEvalKit@00fff545, vlmeval/dataset/worldsense.py (``worldsense_qa.json``:
video → its columns and ``task0``, ``task1`` …; ``WorldSense.tsv``). Prompt:
EvolvingLMMs-Lab/lmms-eval@0cf4eccd, tasks/worldsense, which speaks of the sound in any case.
``vlmevalkit`` prompt: open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/worldsense.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import index_of_letter, strip_option_letters
from smolvideo.evals.datasets.schemas.schema import (
    WATCH_CAREFULLY,
    QuestionText,
    RowPlace,
    Schema,
    dotted,
    text_groups,
    vlmevalkit_frames,
)
from smolvideo.evals.datasets.table_files import HubFilePattern, Row, as_list, read_json, text_of
from smolvideo.evals.item import EvalItem

_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with only the letter (A, B, C, or D) of the correct option.\n"
)


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    if subtitles:
        shown = (
            "These are the frames of a video. This video's subtitles are listed below:\n"
            f'"{subtitles}"\n'
        )
    else:
        shown = "These are the frames of a video and the corresponding audio. "
    return f"{WATCH_CAREFULLY}\n{shown}{_SELECT}{question}\n{dotted(options)}\n"


def _vlmevalkit(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    return QuestionText(WATCH_CAREFULLY, vlmevalkit_frames(question, options, subtitles))


class WorldSense(Schema):
    name = "worldsense"
    title = "WorldSense: everyday videos; sound is not read."
    help = (
        "Run WorldSense: four options on videos of up to ten minutes; the sound is not read.\n\n"
        "FILE is worldsense_qa.json or WorldSense.tsv. Videos are found as `VIDEO.mp4`, subtitles "
        "as `VIDEO.srt`."
    )
    hub: ClassVar = {"main": HubFilePattern("honglyhly/WorldSense", r"worldsense_qa\.json")}
    lmms_eval_task = ("worldsense", "worldsense_score")
    prompts: ClassVar = {"lmms-eval": _lmms_eval, "vlmevalkit": _vlmevalkit}
    file_pattern = r"worldsense_qa\.json|WorldSense\.tsv"

    def rows(self, file: Path) -> Sequence[Row]:
        content = read_json(file) if file.suffix.lower() == ".json" else None
        if not isinstance(content, Mapping):
            return super().rows(file)
        return [
            {**about, **asked, "video": video, "task": task}
            for video, about in content.items()
            if isinstance(about, Mapping)
            for task, asked in about.items()
            if "task" in task and isinstance(asked, Mapping)
        ]

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        video = text_of(row, "video").strip()
        options = strip_option_letters(as_list(row, "candidates"))
        return EvalItem(
            id=str(place.number),
            video_names=(video,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=index_of_letter(row.get("answer"), options),
            groups=text_groups(
                row, "task_domain", "task_type", "domain", "sub_category", "duration"
            ),
            subtitle_names=(f"{video}.srt",),
        )
