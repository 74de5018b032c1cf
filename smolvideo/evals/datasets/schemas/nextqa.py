"""NExT-QA, multiple choice: causal, temporal and descriptive questions about short home videos.

Files: doc-doc/NExT-QA@f2dafbf6, dataset/nextqa/test.csv and val.csv (``a0`` to ``a4``; ``answer``
is a place from 0; ``qid`` counts within a video). Prompt: EvolvingLMMs-Lab/lmms-eval@0a589d62,
tasks/nextqa, ``nextqa_mc_test``, which ends with the options.
"""

from collections.abc import Sequence
from typing import ClassVar

from smolvideo.evals.datasets.option_notation import public_index, validate_options
from smolvideo.evals.datasets.schemas.schema import RowPlace, Schema, dotted, text_groups
from smolvideo.evals.datasets.table_files import HubFilePattern, Row, text_of
from smolvideo.evals.item import EvalItem

_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


def _lmms_eval(question: str, options: Sequence[str], subtitles: str | None) -> str:
    return f"{question}\n{dotted(options)}"


class NextQa(Schema):
    name = "nextqa"
    title = "NExT-QA: why, what next, how many; short videos."
    help = (
        "Run NExT-QA's multiple choice: five options on short videos, why and what next.\n\n"
        "FILE is test.csv or val.csv, or their table. Videos are found as `VIDEO.mp4`, in any "
        "folder of NExTVideo."
    )
    hub: ClassVar = {"main": HubFilePattern("lmms-lab/NExTQA", r"MC/test-.*\.parquet")}
    lmms_eval_task = ("nextqa_mc_test", "exact_match")
    prompts: ClassVar = {"lmms-eval": _lmms_eval}
    file_pattern = r"test\.csv|test-.*\.parquet"

    def item(self, row: Row, place: RowPlace) -> EvalItem:
        video = text_of(row, "video").strip()
        options = validate_options([text_of(row, f"a{place}") for place in range(5)])
        groups = text_groups(row, "type")
        if (kind := _KINDS.get(groups.get("type", "")[:1])) is not None:
            groups["kind"] = kind
        return EvalItem(
            id=f"{video}/{text_of(row, 'qid').strip()}",
            video_names=(video,),
            question=text_of(row, "question").strip(),
            options=options,
            answer_index=public_index(row, "answer", options),
            groups=groups,
        )
