"""Rows of CinePile, Video-MME, MVBench, EgoSchema and of the project's own schema, as items.

CinePile, https://huggingface.co/datasets/tomg-group-umd/cinepile, v1, v2 and 3.0: three of the five
categories contain a line break, ``hard_split`` and ``visual_reliance`` are strings, ``videoID`` is
missing in v1, and ``movie_scene`` is the text from which the questions were generated, so no model
may see it.

https://huggingface.co/datasets/lmms-lab/Video-MME ·
https://huggingface.co/datasets/OpenGVLab/MVBench https://github.com/egoschema/EgoSchema ·
https://huggingface.co/datasets/lmms-lab/egoschema
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from smolvideo.credentials import WebAddress
from smolvideo.evals.datasets.table_files import (
    InvalidRowError,
    Row,
    as_index,
    as_list,
    as_seconds,
    optional_text,
    text_of,
)
from smolvideo.evals.item import LETTERS, EvalItem


def strip_option_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of options that include their letters (``A. …``, ``B) …``, ``(C) …``).

    Only if every option begins with its own letter: ``A. Lincoln`` among names stays whole.

    >>> strip_option_letters(["A. red", "B. blue"]), strip_option_letters(["A. Lincoln", "G. Ford"])
    (('red', 'blue'), ('A. Lincoln', 'G. Ford'))
    """
    bare = []
    for letter, option in zip(LETTERS, options, strict=False):
        found = re.match(rf"\s*(?:{letter}\s*[.):]|\({letter}\))\s*(?=\S)", option)
        if found is None:
            return validate_options(options)
        bare.append(option[found.end() :])
    return validate_options(bare)


def validate_options(options: Sequence[str]) -> tuple[str, ...]:
    """Strip the options. Raises InvalidRowError for an empty one, or for too few or too many."""
    stripped = tuple(option.strip() for option in options)
    if not all(stripped) or not 2 <= len(stripped) <= len(LETTERS):
        raise InvalidRowError(f"needs 2 to {len(LETTERS)} options, none of them empty")
    return stripped


def require_distinct(options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options. Raises InvalidRowError for duplicates, of which only one can be right.

    Not used for published benchmarks, which contain such questions and count them.
    """
    for place, option in enumerate(options):
        if (first := options.index(option)) < place:
            raise InvalidRowError(f"options {first + 1} and {place + 1} are the same")
    return options


def index_of_text(answer: str, options: Sequence[str]) -> int:
    """Return the index of the option with the text ``answer``: the first exact match, as lmms-eval
    counts duplicate options; else the match ignoring case and surrounding whitespace.

    Raises InvalidRowError if there is no match, or more than one of the second kind.
    """
    if answer.strip() in options:
        return options.index(answer.strip())
    wanted = answer.strip().casefold()
    places = [place for place, option in enumerate(options) if option.casefold() == wanted]
    if len(places) != 1:
        raise InvalidRowError(f"the right answer is {len(places)} of the options, not one")
    return places[0]


def index_of_letter(answer: object, options: Sequence[str]) -> int:
    """Return the index of the option with a letter: ``C``, ``C.`` or ``(C)``.

    Raises InvalidRowError if there is no such option.
    """
    letter = str(answer or "").strip().strip("().:")
    index = LETTERS.find(letter) if len(letter) == 1 else -1
    if not 0 <= index < len(options):
        raise InvalidRowError(
            f"the right answer is not the letter of one of {len(options)} options"
        )
    return index


def index_in_range(answer: object, options: Sequence[str]) -> int:
    """Return the index itself, counted from 0, given as a number or as its text.

    Raises InvalidRowError if there is no such option.
    """
    index = as_index(answer)
    if index is None or index >= len(options):
        raise InvalidRowError(f"the right answer is not the place of one of {len(options)} options")
    return index


CATEGORIES = (
    "Character and\nRelationship Dynamics",
    "Narrative and\nPlot Analysis",
    "Setting and\nTechnical Analysis",
    "Temporal",
    "Theme Exploration",
)
"""The five categories exactly as in the dataset."""

_ID = re.compile(r"[\w-]{5,20}")


def cinepile_item(row: Row, number: int, part: str = "") -> EvalItem:
    """Convert one row; its id is ``number``, from 0, after ``part``. Raises InvalidRowError."""
    options = validate_options(as_list(row, "choices"))
    link = optional_text(row, "yt_clip_link")
    video_id = optional_text(row, "videoID") or video_id_of(link or "")
    if video_id is None:
        raise InvalidRowError("has neither a `videoID` nor a `yt_clip_link` with one")
    names = [video_id]
    movie = optional_text(row, "movie_name")
    if movie and link:
        # Names in the fine-tuning script of SmolVLM's authors, and the same without `watch?v=`.
        names += [f"{movie}_{link.rstrip('/').split('/')[-1]}", f"{movie}_{video_id}"]
    return EvalItem(
        id=f"{part}{number}",
        video_names=tuple(names),
        question=text_of(row, "question").strip(),
        options=options,
        answer_index=_answer(row, options),
        groups=_groups(row),
        subtitles=optional_text(row, "subtitles"),
        url=link or f"https://www.youtube.com/watch?v={video_id}",
    )


def video_id_of(link: str) -> str | None:
    """Return the id in a YouTube URL of any form; None without one.

    >>> video_id_of("https://youtu.be/abc_DEF-123?t=4")
    'abc_DEF-123'
    """
    try:
        parts = urlsplit(link.strip())
    except ValueError:
        return None
    named = parse_qs(parts.query).get("v", [])
    last = parts.path.rstrip("/").rpartition("/")[2]
    for candidate in (*named, last):
        if candidate != "watch" and _ID.fullmatch(candidate):
            return candidate
    return None


def _answer(row: Row, options: tuple[str, ...]) -> int:
    """Index of the right choice, from its text if no position is given."""
    key, position = optional_text(row, "answer_key"), as_index(row.get("answer_key_position"))
    if position is None:
        return index_of_text(key or "", options)
    if position >= len(options):
        raise InvalidRowError(f"`answer_key_position` is {position}, of {len(options)} choices")
    if key is not None and options[position].casefold() != key.strip().casefold():
        raise InvalidRowError("`answer_key` is not the choice at `answer_key_position`")
    return position


def _groups(row: Row) -> dict[str, str]:
    named = {
        "category": "question_category",
        "hard_split": "hard_split",
        "visual_reliance": "visual_reliance",
    }
    values = {group: optional_text(row, column) for group, column in named.items()}
    return {group: " ".join(value.split()) for group, value in values.items() if value}


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
