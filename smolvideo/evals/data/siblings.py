"""Video-MME, MVBench and EgoSchema, and the project's own schema.

https://huggingface.co/datasets/lmms-lab/Video-MME · https://huggingface.co/datasets/OpenGVLab/MVBench
https://github.com/egoschema/EgoSchema · https://huggingface.co/datasets/lmms-lab/egoschema
"""

from collections.abc import Mapping
from pathlib import PurePosixPath

from smolvideo.evals.data.options import (
    checked,
    different,
    index_in_range,
    index_of_letter,
    index_of_text,
    without_letters,
)
from smolvideo.evals.data.rows import (
    Row,
    RowProblem,
    as_list,
    as_seconds,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem

MVBENCH_FRAMES_FPS = 3.0
"""Rate of the videos that MVBench keeps as folders of frames (episodic reasoning)."""


def video_mme_item(row: Row, number: int) -> EvalItem:
    """One row of the parquet file. Raises RowProblem."""
    options = without_letters(as_list(row, "options"))
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
    """One entry of a task's JSON file; ``task`` is the file's name. Raises RowProblem."""
    options = checked(as_list(row, "candidates"))
    start, end = as_seconds(row, "start"), as_seconds(row, "end")
    return EvalItem(
        id=f"{task}/{number}",
        video_names=(text_of(row, "video").strip(),),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=index_of_text(text_of(row, "answer"), options),
        groups={"task": task},
        start_seconds=start,
        end_seconds=end,
        frames_fps=MVBENCH_FRAMES_FPS,
    )


def egoschema_item(row: Row, number: int, answers: Mapping[str, object] | None) -> EvalItem | None:
    """One question, in the raw files' schema or in that of the parquet file.

    ``answers`` are those of the public subset, by ``q_uid``; None for a question that has none.
    Raises RowProblem.
    """
    uid = optional_text(row, "q_uid") or optional_text(row, "video_idx")
    if uid is None:
        raise RowProblem("has neither `q_uid` nor `video_idx`")
    if "option 0" in row:
        texts = [text_of(row, f"option {place}") for place in range(5)]
    else:
        texts = as_list(row, "option")
    answer = (answers or {}).get(uid, row.get("answer"))
    if answer is None or answer == "":
        return None
    options = without_letters(texts)
    return EvalItem(
        id=uid,
        video_names=(uid,),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=index_in_range(answer, options),
    )


def own_item(row: Row, number: int, part: str = "") -> EvalItem:
    """One line of our own schema.

    ``id`` (``row 3`` for the third one if missing, behind ``part``), ``video`` (a name or an
    address), ``question``, ``options``, ``answer_index`` (from 0), ``groups``, ``subtitles``,
    ``start``, ``end`` (seconds). Raises RowProblem.
    """
    options = different(checked(as_list(row, "options")))
    groups = row.get("groups") or {}
    if not isinstance(groups, Mapping):
        raise RowProblem("`groups` is not a set of names and values")
    video = text_of(row, "video").strip()
    if not PurePosixPath(video).name:
        raise RowProblem("`video` names no file")  # `.` or `/`
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
        url=video if video.startswith(("http://", "https://")) else None,
    )
