"""Benchmark files → items.

__init__.py     file discovery per benchmark, and notices about rows left out
table_files.py  download from the Hugging Face hub; rows of Parquet, JSON, JSON Lines, CSV
benchmarks.py   one row → one item, options and answers in the notations of the benchmarks
schemas/        one file for each further benchmark
registry.py     names of all benchmarks, and their schemas
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.evals.datasets.benchmarks import (
    cinepile_item,
    egoschema_item,
    jsonl_item,
    mvbench_item,
    video_mme_item,
)
from smolvideo.evals.datasets.registry import SCHEMAS, BenchmarkName
from smolvideo.evals.datasets.table_files import InvalidRowError, Row, read_rows
from smolvideo.evals.item import Benchmark, EvalItem
from smolvideo.json_types import parse_json
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_text, decode_utf_7

MakeItem = Callable[[Row, int], EvalItem | None]

_MAX_TOLD = 3


def load_benchmark(name: BenchmarkName, path: Path) -> Benchmark:
    """Load the items of ``path``: a file, or a folder for benchmarks of several files.

    Invalid rows are left out and listed in ``notices``. Raises SourceError if the files cannot be
    read, if no row is left, or if two items have the same id.
    """
    files = _files_of(name, path)
    items: list[EvalItem] = []
    problems: list[str] = []
    unlabelled = 0
    places: list[str] = []
    for file in files:
        make = _item_factory(name, file, part=f"{file.stem}/" if len(files) > 1 else "")
        for number, row in enumerate(_rows_of(name, file)):
            place = f"{file.name}, row {number + 1}"
            try:
                item = make(row, number)
            except InvalidRowError as problem:
                problems.append(f"{place}: {problem}")
                continue
            if item is None:
                unlabelled += 1
            else:
                items.append(item)
                places.append(place)
    if not items:
        reasons = f": {problems[0]}" if problems else ""
        raise SourceError(f"no question of {display_path(path)} can be used as `{name}`{reasons}")
    _refuse_duplicates(items, places)
    return Benchmark(
        name, tuple(items), path.name, _hash(files), _notices(files, problems, unlabelled)
    )


def _files_of(name: BenchmarkName, path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"no such file or folder: {display_path(path)}")
    if not path.is_dir():
        return [path]
    if name == "egoschema" and (path / "questions.json").is_file():
        return [path / "questions.json"]
    if name in SCHEMAS and (pattern := SCHEMAS[name].file_pattern) is not None:
        named = sorted(file for file in path.iterdir() if re.fullmatch(pattern, file.name))
        if named:
            return named
    suffixes = (".json",) if name == "mvbench" else (".parquet", ".jsonl", ".json", ".csv")
    for suffix in suffixes:
        found = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix)
        if found:
            return found
    raise SourceError(f"no files of `{name}` in {display_path(path)}")


def _rows_of(name: BenchmarkName, file: Path) -> Sequence[Row]:
    return SCHEMAS[name].rows(file) if name in SCHEMAS else read_rows(file)


def _item_factory(name: BenchmarkName, file: Path, part: str) -> MakeItem:
    if name in SCHEMAS:
        return partial(SCHEMAS[name].item, part=file.stem)
    if name == "cinepile":
        return partial(cinepile_item, part=part)
    if name == "video-mme":
        return video_mme_item
    if name == "mvbench":
        return partial(mvbench_item, task=file.stem)
    if name == "egoschema":
        return partial(egoschema_item, answers=_egoschema_answers(file))
    return partial(jsonl_item, part=part)


def _egoschema_answers(file: Path) -> dict[str, object] | None:
    """Load the public answers from the file next to the questions; None without one."""
    beside = file.with_name("subset_answers.json")
    if not beside.is_file():
        return None
    try:
        content = parse_json(decode_text(beside.read_bytes()))
    except (OSError, ValueError) as error:
        raise SourceError(f"{display_path(beside)} cannot be understood: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{display_path(beside)} does not map questions to answers")
    return content


def _refuse_duplicates(items: Sequence[EvalItem], places: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for item, place in zip(items, places, strict=True):
        if item.id in seen:
            raise SourceError(
                f"two questions have the id `{display_name(item.id)}`: "
                f"{display_name(seen[item.id])}, and {display_name(place)}"
            )
        seen[item.id] = place


def _notices(files: Sequence[Path], problems: Sequence[str], unlabelled: int) -> tuple[str, ...]:
    notices = [
        f"{display_path(file)} looks like UTF-7, but is read as UTF-8: save it as UTF-8"
        for file in files
        if file.suffix.lower() != ".parquet" and decode_utf_7(file.read_bytes()) is not None
    ]
    if unlabelled:
        notices.append(f"{unlabelled:,} questions have no public answer and are left out")
    if problems:
        reasons = "; ".join(problems[:_MAX_TOLD])
        more = f"; and {len(problems) - _MAX_TOLD:,} more" if len(problems) > _MAX_TOLD else ""
        count = "1 row is" if len(problems) == 1 else f"{len(problems):,} rows are"
        notices.append(f"{count} left out: {reasons}{more}")
    return tuple(notices)


def _hash(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()
