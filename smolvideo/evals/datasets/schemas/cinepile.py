"""CinePile: questions about film scenes, with subtitles; v1, v2 and 3.0.

https://huggingface.co/datasets/tomg-group-umd/cinepile: three of the five categories contain a line
break, ``hard_split`` and ``visual_reliance`` are strings, ``videoID`` is missing in v1, and
``movie_scene`` is the text from which the questions were generated, so no model may see it.

Prompts: ``official``, the notebook published with the dataset; ``lmms-eval``,
EvolvingLMMs-Lab/lmms-eval@75571cfe, tasks/cinepile; ``smolvlm``, mfarre/smol-vision@e858d403,
SmolVLM_FT_video_cinepile.py, the closest to the script behind the 27.14 % of SmolVLM's authors,
which is not published.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from smolvideo.evals.datasets.option_notation import index_of_text, validate_options
from smolvideo.evals.datasets.schemas.schema import QuestionText, RowPlace, Schema, lettered
from smolvideo.evals.datasets.table_files import (
    HubFilePattern,
    InvalidRowError,
    Row,
    as_index,
    as_list,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem

_REPOSITORY = "tomg-group-umd/cinepile"

CATEGORIES = (
    "Character and\nRelationship Dynamics",
    "Narrative and\nPlot Analysis",
    "Setting and\nTechnical Analysis",
    "Temporal",
    "Theme Exploration",
)
"""The five categories exactly as in the dataset."""

_CATEGORY_AS_WRITTEN = {" ".join(category.split()): category for category in CATEGORIES}
"""Categories with CinePile's line breaks, by which lmms-eval identifies them."""

_ID = re.compile(r"[\w-]{5,20}")

_HEAD = (
    "You will be provided with subtitles from a specific scene of a movie and {frames} from that "
    "scene. After going through the movie scene and seeing the frames, please answer the question "
    "that follows. The question will have five possible answers labeled A, B, C, D, and E, please "
    "try to provide the most probable answer in your opinion. Your output should be just one of "
    "A,B,C,D,E and nothing else."
)
_TAIL = (
    "Note: Follow the output format strictly. Only answer with the option key (A, B, C, D, E) and "
    "nothing else."
)


def _dashed(options: Sequence[str]) -> str:
    return "".join(f"- {letter}) {option}\n" for letter, option in lettered(options))


def _official(question: str, options: Sequence[str], subtitles: str | None) -> str:
    shape = "**Output Format:**\n    **Answer:** <Option_key>"
    return (
        f"{_HEAD.format(frames='a few frames')}\n\n{shape}\n\n"
        f"**Subtitles:** \n{subtitles or ''}\n\nQuestion: {question}\n{_dashed(options)}\n\n{_TAIL}"
    )


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    shape = "**Output Format:**\n\t**Answer:** <Option_key>"
    return (
        f"{_HEAD.format(frames='all the video frames')}\n{shape}\n\n"
        f"**Subtitles:**\n{subtitles or ''}\n\n{question}\n{_dashed(options)}\n{_TAIL}"
    )


def smolvlm_prompt(question: str, options: Sequence[str], subtitles: str | None) -> QuestionText:
    """The fine-tuning script's question, also used for files of the project's own schema."""
    given = f"Given these subtitles:\n{subtitles}\n\n" if subtitles else ""
    return QuestionText(
        "Answer briefly with just the letter of your choice.",
        f"{given}{question}\n{_dashed(options)}",
    )


class CinePile(Schema):
    name = "cinepile"
    title = "CinePile: questions about film scenes."
    help = (
        "Run CinePile: five options on film scenes, with subtitles.\n\n"
        "FILE is the dataset's parquet, or the same as .json, .jsonl or .csv, of v1, v2 or 3.0; "
        "without it the dataset is downloaded from the hub, which requires a token in HF_TOKEN. "
        "Videos are found as `videoID.mp4` or `MOVIE_watch?v=ID.mp4`."
    )
    hub: ClassVar = {
        "v2": HubFilePattern(_REPOSITORY, r"v2/test-.*\.parquet"),
        "v1": HubFilePattern(_REPOSITORY, r"(?!v2/)(?:.*/)?test-.*\.parquet"),
        "3.0": HubFilePattern("CinePile/cinepile-3.0_with_videoID", r"(?:.*/)?test-.*\.parquet"),
    }
    lmms_eval_task = ("cinepile", "cinepile_accuracy")
    prompts: ClassVar = {"official": _official, "smolvlm": smolvlm_prompt, "lmms-eval": _lmms_eval}
    official_extractor = "cinepile"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
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
            id=place.id,
            video_names=tuple(names),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=_answer(row, options),
            groups=_groups(row),
            subtitles=optional_text(row, "subtitles"),
            url=link or f"https://www.youtube.com/watch?v={video_id}",
        )

    def lmms_eval_target(self, item: EvalItem) -> str:
        assert item.answer_index is not None
        return f"{item.answer_letter}) {item.options[item.answer_index]}"

    def lmms_eval_metric(self, item: EvalItem, text: str, choice: int | None, correct: bool) -> Any:
        category = item.groups.get("category", "")
        number, rest = cinepile_parts(text)
        return {
            "question": item.question,
            "question_category": _CATEGORY_AS_WRITTEN.get(category, category),
            "hard_split": item.groups.get("hard_split"),
            "correct": int(correct),
            "answer": item.answer_letter,
            "raw_response": text,
            "response_ext_number": number,
            "response_ext_text": rest,
        }


def cinepile_parts(text: str) -> tuple[str | None, str]:
    """Split into the letter in upper case (None without one) and the text after it, or all."""
    text = text.replace("*", "").strip()
    if re.match(r"^[A-E]$", text, re.IGNORECASE):
        return text.upper(), ""
    found = re.search(r"Answer:\s*([A-E])\)?\.?\s*(.*)", text, re.IGNORECASE)
    return (found[1].upper(), found[2].strip()) if found else (None, text)


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
