"""VQAv2's own files (visualqa.org/download.html): questions, annotations and COCO's pictures.

    v2_OpenEnded_mscoco_val2014_questions.json   {"questions": [{image_id, question, question_id}],
                                                  "data_type": "mscoco", "data_subtype": "val2014"}
    v2_mscoco_val2014_annotations.json           {"annotations": [{question_id,
                                                  "multiple_choice_answer": …}]}
    val2014/COCO_val2014_000000000042.jpg        or the picture beside the questions

The annotations are found beside the questions by their ``data_subtype``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from smolvideo.errors import RecordError
from smolvideo.json_types import parse_json
from smolvideo.sanitize import display_path
from smolvideo.tune.lines import DataFile, DataLine, Fault, MediaRef, read_bytes


def is_vqa(path: Path) -> bool:
    """Whether a data file is one of VQAv2's, by its name: ours are of lines."""
    return path.suffix.lower() == ".json"


def read_vqa(path: Path) -> DataFile:
    """Read a question file with its annotations. ``number`` of a line is that of the question.

    Raises RecordError where one of the two is missing, cannot be read or has another form.
    """
    content = _object(path)
    questions = content.get("questions")
    if not isinstance(questions, list) or not questions:
        raise RecordError(
            f"{display_path(path)} has no `questions`: it is not VQAv2's question file",
            hint="files of lines are named .jsonl",
        )
    subtype = content.get("data_subtype")
    if not isinstance(subtype, str) or not subtype.replace("-", "").isalnum():
        raise RecordError(f"{display_path(path)} has no `data_subtype`")
    answers = _answers(path, subtype)
    lines: list[DataLine] = []
    faults: list[Fault] = []
    for number, question in enumerate(questions, start=1):
        try:
            lines.append(_line(number, question, answers, path.parent, subtype))
        except ValueError as error:
            faults.append(Fault(number, str(error)))
    return DataFile(path, path.parent, tuple(lines), tuple(faults))


def _line(
    number: int, question: Any, answers: dict[int, str], folder: Path, subtype: str
) -> DataLine:
    if not isinstance(question, dict) or not isinstance(question.get("question"), str):
        raise ValueError("`question` is missing")
    image = question.get("image_id")
    if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < 10**12:
        raise ValueError("`image_id` must be a whole number")
    answer = answers.get(question.get("question_id", -1))
    if answer is None:
        raise ValueError(f"question {str(question.get('question_id'))[:20]} has no annotation")
    if not question["question"].strip() or not answer.strip():
        raise ValueError("the question or its answer is empty")
    name = f"COCO_{subtype}_{image:012d}.jpg"
    beside = folder / name
    media = MediaRef(name if beside.exists() else f"{subtype}/{name}")
    return DataLine(number, (media,), question["question"], answer)


def _answers(path: Path, subtype: str) -> dict[int, str]:
    """Question id → the most frequent answer, of the annotations beside ``path``."""
    found = sorted(path.parent.glob("*annotations*.json"))
    for file in found:
        content = _object(file)
        if content.get("data_subtype") == subtype:
            return dict(_annotated(content.get("annotations")))
    raise RecordError(
        f"no annotations of `{subtype}` beside {display_path(path)}",
        hint=f"put VQAv2's `v2_mscoco_{subtype}_annotations.json` into the same folder",
    )


def _annotated(annotations: Any) -> Iterator[tuple[int, str]]:
    for one in annotations if isinstance(annotations, list) else []:
        if isinstance(one, dict):
            number, answer = one.get("question_id"), one.get("multiple_choice_answer")
            if isinstance(number, int) and isinstance(answer, str):
                yield number, answer


def _object(path: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_bytes(path), unique_keys=True)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{display_path(path)} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{display_path(path)} holds no JSON object")
    return content
