"""LVBench: questions about videos of half an hour and more; a question may have several types.

File: ``video_info.meta.jsonl``, a line per video with ``key`` (its YouTube id), ``type`` and ``qa``
(``uid``, ``question`` that ends with its options, ``answer``, ``question_type``), as other tools'
readers take it. Prompt: EvolvingLMMs-Lab/lmms-eval@4be7ee0e,
tasks/lvbench.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import index_of_letter
from smolvideo.evals.datasets.schemas.schema import RowPlace, Schema, bracketed, split_question
from smolvideo.evals.datasets.table_files import HubFilePattern, Row, optional_text, text_of
from smolvideo.evals.item import EvalItem


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{bracketed(options)}\nAnswer the question with the option letter"


class LvBench(Schema):
    name = "lvbench"
    title = "LVBench: half an hour and more."
    help = (
        "Run LVBench: four options on videos of half an hour and more.\n\n"
        "FILE is video_info.meta.jsonl. Videos are found as `KEY.mp4`."
    )
    hub: ClassVar = {"main": HubFilePattern("zai-org/LVBench", r"(?:.*/)?video_info\.meta\.jsonl")}
    lmms_eval_task = ("lvbench", "lvbench_score")
    prompts: ClassVar = {"lmms-eval": _lmms_eval}
    file_pattern = r"video_info\.meta\.jsonl"

    def rows(self, file: Path) -> Sequence[Row]:
        rows: list[Row] = []
        for video in super().rows(file):
            questions = video.get("qa")
            if not isinstance(questions, list):
                rows.append(video)
                continue
            known = {name: video.get(name) for name in ("key", "type")}
            rows += [{**known, **asked} for asked in questions if isinstance(asked, Mapping)]
        return rows

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        key = optional_text(row, "key") or PurePosixPath(text_of(row, "video_path")).stem
        question, options = split_question(text_of(row, "question"))
        return EvalItem(
            id=optional_text(row, "uid") or str(place.number),
            video_names=(key.strip(),),
            question=question,
            options=options,
            answer_index=index_of_letter(row.get("answer"), options),
            groups=_groups(row),
            url=f"https://www.youtube.com/watch?v={key.strip()}",
        )


def _groups(row: Row) -> dict[str, str]:
    """A grouping for each type of the question, because the authors count it in all its types."""
    types = row.get("question_type")
    named = types if isinstance(types, list | tuple) else [types] if types else []
    groups = {" ".join(str(one).split()): "yes" for one in named}
    if (kind := optional_text(row, "type")) is not None:
        groups["video type"] = kind.strip()
    return groups
