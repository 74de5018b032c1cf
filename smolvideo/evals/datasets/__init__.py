"""Benchmark files → items.

__init__.py         file discovery per benchmark, and notices about rows left out
table_files.py      download from the Hugging Face hub; rows of Parquet, JSON, JSON Lines, CSV
option_notation.py  options and right answers in the notations of the benchmarks
schemas/            one file for each benchmark
registry.py         names of all benchmarks, and their schemas
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from smolvideo.errors import SourceError
from smolvideo.evals.datasets.registry import SCHEMAS, BenchmarkName
from smolvideo.evals.datasets.schemas.schema import RowPlace, Schema
from smolvideo.evals.datasets.table_files import InvalidRowError
from smolvideo.evals.item import Benchmark, EvalItem
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_utf_7

_MAX_TOLD = 3


def load_benchmark(name: BenchmarkName, path: Path, *, unlabelled: bool = False) -> Benchmark:
    """Load the items of ``path``: a file, or a folder for benchmarks of several files.

    Invalid rows are left out and listed in ``notices``; so are questions without a public answer,
    if not ``unlabelled``. Raises SourceError if the files cannot be read, if no row is left, or if
    two items have the same id.
    """
    schema = SCHEMAS[name]
    files = _files_of(schema, path)
    items: list[EvalItem] = []
    problems: list[str] = []
    num_unlabelled = 0
    places: list[str] = []
    for file in files:
        for number, row in enumerate(schema.rows(file)):
            place = f"{file.name}, row {number + 1}"
            try:
                item = schema.item(row, RowPlace(number, file.stem, len(files) == 1))
            except InvalidRowError as problem:
                problems.append(f"{place}: {problem}")
                continue
            num_unlabelled += item.answer_index is None
            if item.answer_index is not None or unlabelled:
                items.append(item)
                places.append(place)
    if not items:
        reasons = f": {problems[0]}" if problems else ""
        raise SourceError(
            f"no question of {display_path(path)} can be used as `{name}`{reasons}",
            hint="`--unlabelled` asks questions without a public answer"
            if num_unlabelled
            else None,
        )
    _refuse_duplicates(items, places)
    return Benchmark(
        name,
        tuple(items),
        path.name,
        _hash(files),
        _notices(files, problems, num_unlabelled, unlabelled),
    )


def _files_of(schema: Schema, path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"no such file or folder: {display_path(path)}")
    if not path.is_dir():
        return [path]
    files = sorted(path.iterdir())
    if (pattern := schema.file_pattern) is not None:
        named = [file for file in files if re.fullmatch(pattern, file.name)]
        if named:
            return named
    for suffix in schema.suffixes:
        found = [file for file in files if file.suffix.lower() == suffix]
        if found:
            return found
    raise SourceError(f"no files of `{schema.name}` in {display_path(path)}")


def _refuse_duplicates(items: Sequence[EvalItem], places: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for item, place in zip(items, places, strict=True):
        if item.id in seen:
            raise SourceError(
                f"two questions have the id `{display_name(item.id)}`: "
                f"{display_name(seen[item.id])}, and {display_name(place)}"
            )
        seen[item.id] = place


def _notices(
    files: Sequence[Path], problems: Sequence[str], num_unlabelled: int, are_asked: bool
) -> tuple[str, ...]:
    notices = [
        f"{display_path(file)} looks like UTF-7, but is read as UTF-8: save it as UTF-8"
        for file in files
        if file.suffix.lower() != ".parquet" and decode_utf_7(file.read_bytes()) is not None
    ]
    if num_unlabelled:
        what = "are asked, but in no score" if are_asked else "are left out"
        notices.append(f"{num_unlabelled:,} questions have no public answer and {what}")
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
