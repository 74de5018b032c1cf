"""MVBench: twenty tasks on short videos of many sources, a JSON file for each task.

Files: https://huggingface.co/datasets/OpenGVLab/MVBench. Prompts: ``smolvlm``,
mfarre/smol-vision@e858d403, the sibling of eval/inference_video_mcqa_videomme.py; ``lmms-eval``,
EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks/mvbench; ``vlmevalkit``,
open-compass/VLMEvalKit@e8e78f05, vlmeval/dataset/mvbench.py.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from smolvideo.evals.datasets.option_notation import index_of_text, validate_options
from smolvideo.evals.datasets.schemas.schema import (
    DIRECT_LETTER,
    QuestionText,
    RowPlace,
    Schema,
    bracketed,
)
from smolvideo.evals.datasets.table_files import HubFilePattern, Row, as_list, as_seconds, text_of
from smolvideo.evals.item import EvalItem

MVBENCH_FRAME_FOLDER_FPS = 3.0
"""Frame rate of the videos that MVBench stores as folders of frames (episodic reasoning)."""


class TaskFolders(NamedTuple):
    """Video folders of an MVBench task: ``whole`` videos (published, converted), ``cut`` clips."""

    whole: tuple[str, ...]
    cut: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.whole + self.cut


_STAR = TaskFolders(("star/Charades_v1_480",), ("star/Charades_segment",))
_CLEVRER = TaskFolders(("clevrer/video_validation",))
_PERCEPTION = TaskFolders(("perception/videos",))

MVBENCH_FOLDERS = {
    "action_sequence": _STAR,
    "action_prediction": _STAR,
    "action_antonym": TaskFolders(("ssv2_video", "ssv2_video_mp4")),
    "fine_grained_action": TaskFolders(("Moments_in_Time_Raw/videos",)),
    "unexpected_action": TaskFolders(("FunQA_test/test",)),
    "object_existence": _CLEVRER,
    "object_interaction": _STAR,
    "object_shuffle": _PERCEPTION,
    "moving_direction": _CLEVRER,
    "action_localization": TaskFolders(("sta/sta_video",), ("sta/sta_video_segment",)),
    "scene_transition": TaskFolders(("scene_qa/video",)),
    "action_count": _PERCEPTION,
    "moving_count": _CLEVRER,
    "moving_attribute": _CLEVRER,
    "state_change": _PERCEPTION,
    "fine_grained_pose": TaskFolders(("nturgbd", "nturgbd_convert")),
    "character_order": _PERCEPTION,
    "egocentric_navigation": TaskFolders(("vlnqa",)),
    "episodic_reasoning": TaskFolders(("tvqa/frames_fps3_hq",), ("tvqa/video_fps3_hq_segment",)),
    "counterfactual_inference": _CLEVRER,
}
"""Task → its folders. Several sources number their videos alike, so other folders are wrong.

open-compass/VLMEvalKit@006aa296, vlmeval/dataset/mvbench.py (as published);
EvolvingLMMs-Lab/lmms-eval@1ab9504d, lmms_eval/tasks/mvbench/utils.py (converted, and cut to the
parts that are asked about).
"""


def _foreign_folders(own: TaskFolders) -> tuple[str, ...]:
    """MVBench's folders of other tasks; none if the task's own folders are unknown."""
    if not own.whole:
        return ()
    folders = dict.fromkeys(one for task in MVBENCH_FOLDERS.values() for one in task.all)
    return tuple(folder for folder in folders if folder not in own.all)


def smolvlm_prompt(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    """The prompt of SmolVLM's authors for MVBench and EgoSchema."""
    letter = DIRECT_LETTER.replace(" directly.", " directly and only give the best option.")
    return QuestionText(
        "Answer briefly.", f"Question: {question}\nOptions:\n{bracketed(options)}\n{letter}"
    )


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"Question:{question}\nOption:\n{bracketed(options)}\nOnly give the best option.\n"


def _vlmevalkit(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    opening = (
        "Carefully watch the video and pay attention to the cause and sequence of events, the "
        "detail and movement of objects, and the action and pose of persons. Based on your "
        "observations, select the best option that accurately addresses the question.\n"
    )
    listed = f"Question: {question}\nOptions:\n{bracketed(options)}"
    return QuestionText(opening, f"{listed}\n\nOnly give the best option.\nBest option:(")


class MvBench(Schema):
    name = "mvbench"
    title = "MVBench: twenty tasks on short videos."
    help = (
        "Run MVBench: twenty tasks on short videos.\n\n"
        "FILE is one task's .json or a folder of them. Videos are found by the names in these "
        "files; folders of frames have three frames per second."
    )
    hub: ClassVar = {"main": HubFilePattern("OpenGVLab/MVBench", r"json/[^/]*\.json")}
    suffixes = (".json",)
    lmms_eval_task = ("mvbench", "mvbench_accuracy")
    prompts: ClassVar = {
        "smolvlm": smolvlm_prompt,
        "lmms-eval": _lmms_eval,
        "vlmevalkit": _vlmevalkit,
    }
    official_extractor = "lmms-eval:mvbench"
    mean_over = "task"
    has_cut_videos = True

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        options = validate_options(as_list(row, "candidates"))
        start, end = as_seconds(row, "start"), as_seconds(row, "end")
        video = text_of(row, "video").strip()
        task = place.stem
        own = MVBENCH_FOLDERS.get(task, TaskFolders(()))
        cut_names = tuple(f"{folder}/{video}" for folder in own.cut)
        return EvalItem(
            id=f"{task}/{place.number}",
            video_names=(*(f"{folder}/{video}" for folder in own.whole), *cut_names, video),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=index_of_text(text_of(row, "answer"), options),
            groups={"task": task},
            start_seconds=start,
            end_seconds=end,
            frames_fps=MVBENCH_FRAME_FOLDER_FPS,
            cut_names=cut_names,
            foreign_folders=_foreign_folders(own),
        )

    def lmms_eval_subtask(self, item: EvalItem | None, *, subtitle_files: bool) -> str:
        task = None if item is None else item.groups.get("task")
        return "mvbench" if task is None else f"mvbench_{task}"

    def lmms_eval_metric(self, item: EvalItem, text: str, choice: int | None, correct: bool) -> Any:
        return {"pred_answer": text, "gt_answer": item.answer_letter, "score": int(correct)}
