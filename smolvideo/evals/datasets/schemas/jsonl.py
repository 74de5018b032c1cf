"""The project's own schema: one JSON object per line.

``id`` (default ``row 3`` for the third line), ``video`` (a name or a URL), ``question``,
``options``, ``answer_index`` (from 0), ``groups``, ``subtitles``, ``start``, ``end`` (seconds).
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from smolvideo.credentials import WebAddress
from smolvideo.evals.datasets.option_notation import (
    index_in_range,
    require_distinct,
    validate_options,
)
from smolvideo.evals.datasets.schemas.cinepile import smolvlm_prompt
from smolvideo.evals.datasets.schemas.schema import RowPlace, Schema
from smolvideo.evals.datasets.table_files import (
    InvalidRowError,
    Row,
    as_list,
    as_seconds,
    optional_text,
    text_of,
)
from smolvideo.evals.item import EvalItem


class OwnQuestions(Schema):
    name = "jsonl"
    title = "Your own questions, one JSON object per line."
    help = (
        "Run your own questions, one JSON object per line:\n\n"
        '{"id": "1", "video": "party.mp4", "question": "Who blows?", "options": ["a dog", "a '
        'child"], "answer_index": 1, "groups": {"category": "people"}, "subtitles": "…", "start": '
        '3, "end": 9}\n\n'
        "id, groups, subtitles, start and end (seconds) may be missing."
    )
    lmms_eval_task = ("smolvideo_jsonl", "accuracy")
    prompts: ClassVar = {"smolvlm": smolvlm_prompt}

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        options = require_distinct(validate_options(as_list(row, "options")))
        groups = row.get("groups") or {}
        if not isinstance(groups, Mapping):
            raise InvalidRowError("`groups` is not a set of names and values")
        part = "" if place.is_only_file else f"{place.stem}/"
        # Not stripped: a file name may end with a space.
        video = text_of(row, "video")
        if not PurePosixPath(video.strip()).name:
            raise InvalidRowError("`video` names no file")  # `.` or `/`
        address = video.strip() if video.strip().startswith(("http://", "https://")) else None
        video = WebAddress(address).name if address else video.strip() if "://" in video else video
        right = row.get("answer_index")
        stem = PurePosixPath(video).with_suffix("").as_posix() if "://" not in video else video
        return EvalItem(
            id=optional_text(row, "id") or f"{part}row {place.number + 1}",
            video_names=(video,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=None if right is None else index_in_range(right, options),
            groups={str(name): " ".join(str(value).split()) for name, value in groups.items()},
            subtitles=optional_text(row, "subtitles"),
            subtitle_names=(f"{stem}.srt", f"{stem}.vtt"),
            start_seconds=as_seconds(row, "start"),
            end_seconds=as_seconds(row, "end"),
            url=address,
        )
