"""CinePile: https://huggingface.co/datasets/tomg-group-umd/cinepile, v1, v2 and 3.0.

Pitfalls of its columns: three of the five categories contain a line break, ``hard_split`` and
``visual_reliance`` are strings, ``videoID`` is missing in v1, and ``movie_scene`` is the text from
which the questions were generated, so no model may see it.
"""

import re
from urllib.parse import parse_qs, urlsplit

from smolvideo.evals.datasets.options import index_of_text, validate_options
from smolvideo.evals.datasets.table_files import (
    InvalidRowError,
    Row,
    as_index,
    as_list,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem

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
