"""Video-MME: short to long videos, with subtitles as files next to them.

File: https://huggingface.co/datasets/lmms-lab/Video-MME. Prompts: ``smolvlm``,
mfarre/smol-vision@e858d403, eval/inference_video_mcqa_videomme.py; ``lmms-eval``,
EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks/videomme; ``vlmevalkit``,
open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/videomme.py.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from smolvideo.evals.datasets.option_notation import index_of_letter, strip_option_letters
from smolvideo.evals.datasets.schemas.schema import (
    DIRECT_LETTER,
    QuestionText,
    RowPlace,
    Schema,
    bracketed,
    dotted,
    text_groups,
    vlmevalkit_frames,
)
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    Row,
    as_list,
    optional_text,
    text_of,
)
from smolvideo.evals.item import LETTERS, EvalItem

_SMOLVLM_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond "
    "with 'Answer: X' where X is the letter (A, B, C, or D) of the correct option.\n"
)
_LMMS_SELECT = (
    "Select the best answer to the following multiple-choice question based on the video and the "
    "subtitles. Respond with only the letter (A, B, C, or D) of the correct option.\n"
)


def _smolvlm(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    given = f"Video subtitles:\n{subtitles}\n\n" if subtitles else ""
    return QuestionText(
        "Answer briefly.", f"{given}{_SMOLVLM_SELECT}{question}\n{bracketed(options)}\n"
    )


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    # The task without subtitles still mentions them, but ends differently.
    given = f"This video's subtitles are listed below: \n{subtitles}\n" if subtitles else ""
    ending = "The best answer is:" if subtitles else f"\n{DIRECT_LETTER}"
    return f"{given}{_LMMS_SELECT}{question}\n{dotted(options)}\n{ending}"


class VideoMme(Schema):
    name = "video-mme"
    title = "Video-MME: short to long videos."
    help = (
        "Run Video-MME: four options on videos from eleven seconds to an hour.\n\n"
        "FILE is the dataset's parquet (or .json, .jsonl, .csv); videos are found as "
        "`videoID.mp4`, subtitles as `videoID.srt`."
    )
    hub: ClassVar = {"main": HubFilePattern("lmms-lab/Video-MME", r"videomme/test-.*\.parquet")}
    lmms_eval_task = ("videomme", "videomme_perception_score")
    prompts: ClassVar = {
        "smolvlm": _smolvlm,
        "lmms-eval": _lmms_eval,
        "vlmevalkit": vlmevalkit_frames,
    }
    official_extractor = "lmms-eval:videomme"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        options = strip_option_letters(as_list(row, "options"))
        video = text_of(row, "videoID").strip()
        return EvalItem(
            id=optional_text(row, "question_id") or str(place.number),
            video_names=(video,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=index_of_letter(row.get("answer"), options),
            groups=text_groups(row, "duration", "domain", "sub_category", "task_type"),
            subtitle_names=(f"{video}.srt", f"{video}.vtt"),
            url=optional_text(row, "url") or f"https://www.youtube.com/watch?v={video}",
        )

    def lmms_eval_subtask(self, item: EvalItem | None, *, subtitle_files: bool) -> str:
        return "videomme_w_subtitle" if subtitle_files else "videomme"

    def lmms_eval_metric(self, item: EvalItem, text: str, choice: int | None, correct: bool) -> Any:
        return {
            "question_id": item.id,
            "duration": item.groups.get("duration"),
            "category": item.groups.get("domain"),
            "sub_category": item.groups.get("sub_category"),
            "task_category": item.groups.get("task_type"),
            "pred_answer": "" if choice is None else LETTERS[choice],
            "answer": item.answer_letter,
            "score": float(correct),
            "videoID": item.video,
        }
