"""MMVU, its multiple-choice questions: expert knowledge in 27 subjects.

File: yale-nlp/MMVU@4d54223d, data/validation.json (``choices`` by letter, empty for open-ended
questions; videos are numbered within the folder of their subject). Prompt:
EvolvingLMMs-Lab/lmms-eval@161c7a17, tasks/mmvu.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import ClassVar
from urllib.parse import urlsplit

from smolvideo.evals.datasets.option_notation import index_of_letter, validate_options
from smolvideo.evals.datasets.schemas.schema import RowPlace, Schema, lettered
from smolvideo.evals.datasets.table_files import HubFilePattern, InvalidRowError, Row, text_of
from smolvideo.evals.item import EvalItem


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    listed = "\n".join(f"{letter}: {text}" for letter, text in lettered(options))
    return (
        f"\nQuestion:{question}\n{listed}\nVisual Information: processed video\n"
        "Do not generate any intermediate reasoning process. Answer directly with the option "
        "letter from the\ngiven choices.\n"
    )


class Mmvu(Schema):
    name = "mmvu"
    title = "MMVU: expert knowledge in 27 subjects."
    help = (
        "Run MMVU's multiple choice: five options that need an expert's knowledge.\n\n"
        "FILE is validation.json; open-ended questions are left out. Videos are found in the "
        "folder of their subject, as `Chemistry/0.mp4`."
    )
    hub: ClassVar = {"main": HubFilePattern("yale-nlp/MMVU", r"(?:.*/)?validation\.json")}
    lmms_eval_task = ("mmvu_val", "accuracy")
    prompts: ClassVar = {"lmms-eval": _lmms_eval}
    file_pattern = r"validation\.json"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        if row.get("question_type") != "multiple-choice":
            raise InvalidRowError("is open-ended, and not multiple choice")
        choices = row.get("choices")
        if not isinstance(choices, Mapping):
            raise InvalidRowError("has no `choices` by letter")
        options = validate_options([str(choices[letter]) for letter in sorted(choices)])
        address = text_of(row, "video" if "video" in row else "video_path").strip()
        path = PurePosixPath(urlsplit(address).path)
        if not path.parent.name:
            raise InvalidRowError("has no video in the folder of a subject")
        return EvalItem(
            id=text_of(row, "id").strip(),
            video_names=(f"{path.parent.name}/{path.name}",),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=index_of_letter(row.get("answer"), options),
            groups={"subject": path.parent.name.replace("_", " ")},
            url=address if address.startswith("https://") else None,
        )
