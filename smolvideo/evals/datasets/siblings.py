"""Rows of Video-MME, MVBench, EgoSchema, and of the project's own schema.

https://huggingface.co/datasets/lmms-lab/Video-MME · https://huggingface.co/datasets/OpenGVLab/MVBench
https://github.com/egoschema/EgoSchema · https://huggingface.co/datasets/lmms-lab/egoschema
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from smolvideo.credentials import WebAddress
from smolvideo.evals.datasets.options import (
    index_in_range,
    index_of_letter,
    index_of_text,
    require_distinct,
    strip_option_letters,
    validate_options,
)
from smolvideo.evals.datasets.table_files import (
    InvalidRowError,
    Row,
    as_list,
    as_seconds,
    optional_text,
    text_of,
)
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


def video_mme_item(row: Row, number: int) -> EvalItem:
    """Convert one row of the Parquet file. Raises InvalidRowError."""
    options = strip_option_letters(as_list(row, "options"))
    video = text_of(row, "videoID").strip()
    named = ("duration", "domain", "sub_category", "task_type")
    groups = {name: value for name in named if (value := optional_text(row, name))}
    return EvalItem(
        id=optional_text(row, "question_id") or str(number),
        video_names=(video,),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=index_of_letter(row.get("answer"), options),
        groups=groups,
        subtitle_names=(f"{video}.srt", f"{video}.vtt"),
        url=optional_text(row, "url") or f"https://www.youtube.com/watch?v={video}",
    )


def mvbench_item(row: Row, number: int, task: str) -> EvalItem:
    """Convert an entry of a task's JSON file; ``task`` is its stem. Raises InvalidRowError."""
    options = validate_options(as_list(row, "candidates"))
    start, end = as_seconds(row, "start"), as_seconds(row, "end")
    video = text_of(row, "video").strip()
    own = MVBENCH_FOLDERS.get(task, TaskFolders(()))
    cut_names = tuple(f"{folder}/{video}" for folder in own.cut)
    return EvalItem(
        id=f"{task}/{number}",
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


def _foreign_folders(own: TaskFolders) -> tuple[str, ...]:
    """MVBench's folders of other tasks; none if the task's own folders are unknown."""
    if not own.whole:
        return ()
    folders = dict.fromkeys(one for task in MVBENCH_FOLDERS.values() for one in task.all)
    return tuple(folder for folder in folders if folder not in own.all)


def egoschema_item(row: Row, number: int, answers: Mapping[str, object] | None) -> EvalItem | None:
    """Convert one question, in the schema of the raw files or of the Parquet file.

    ``answers`` are the public subset's, by ``q_uid``. Returns None for a question without an
    answer. Raises InvalidRowError.
    """
    uid = optional_text(row, "q_uid") or optional_text(row, "video_idx")
    if uid is None:
        raise InvalidRowError("has neither `q_uid` nor `video_idx`")
    if "option 0" in row:
        texts = [text_of(row, f"option {place}") for place in range(5)]
    else:
        texts = as_list(row, "option")
    answer = (answers or {}).get(uid, row.get("answer"))
    if answer is None or answer == "":
        return None
    options = strip_option_letters(texts)
    return EvalItem(
        id=uid,
        video_names=(uid,),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=index_in_range(answer, options),
    )


def jsonl_item(row: Row, number: int, part: str = "") -> EvalItem:
    """Convert one line of our own schema.

    ``id`` (default ``row 3`` for the third line, after ``part``), ``video`` (a name or a URL),
    ``question``, ``options``, ``answer_index`` (from 0), ``groups``, ``subtitles``, ``start``,
    ``end`` (seconds). Raises InvalidRowError.
    """
    options = require_distinct(validate_options(as_list(row, "options")))
    groups = row.get("groups") or {}
    if not isinstance(groups, Mapping):
        raise InvalidRowError("`groups` is not a set of names and values")
    # Not stripped: a file name may end with a space.
    video = text_of(row, "video")
    if not PurePosixPath(video.strip()).name:
        raise InvalidRowError("`video` names no file")  # `.` or `/`
    address = video.strip() if video.strip().startswith(("http://", "https://")) else None
    video = WebAddress(address).name if address else video.strip() if "://" in video else video
    stem = PurePosixPath(video).with_suffix("").as_posix() if "://" not in video else video
    return EvalItem(
        id=optional_text(row, "id") or f"{part}row {number + 1}",
        video_names=(video,),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=index_in_range(row.get("answer_index"), options),
        groups={str(name): " ".join(str(value).split()) for name, value in groups.items()},
        subtitles=optional_text(row, "subtitles"),
        subtitle_names=(f"{stem}.srt", f"{stem}.vtt"),
        start_seconds=as_seconds(row, "start"),
        end_seconds=as_seconds(row, "end"),
        url=address,
    )
