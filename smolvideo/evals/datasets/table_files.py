"""Files of a benchmark: download from the Hugging Face hub, and rows of Parquet, JSON and CSV.

A row is a dict. CSV columns are strings; ``as_list`` and ``as_index`` parse them.
"""

import ast
import csv
import io
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from smolvideo.errors import SourceError, UsageError
from smolvideo.json_types import parse_json
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_text


class HubFilePattern(NamedTuple):
    """The files of a dataset's repository that match a regular expression."""

    repo_id: str
    pattern: str


def fetch_benchmark(
    name: str,
    versions: Mapping[str, HubFilePattern],
    version: str | None = None,
    *,
    offline: bool = False,
    on_progress: OnProgress = no_progress,
) -> Path:
    """Download a file, or a folder of several, into the hub's cache; the token is HF_TOKEN.

    ``versions`` are its files on the hub, the default first. Raises UsageError for an unknown
    version, SourceError if the files are not available.
    """
    if version is not None and version not in versions:
        known = ", ".join(f"`{known}`" for known in versions)
        raise UsageError(f"`{name}` has no version `{version}`", hint=f"one of {known}")
    wanted = versions[version or next(iter(versions))]
    # The names of the files on the hub, then the files themselves.
    on_progress(Progress("download", label=wanted.repo_id))
    with _as_source_error(wanted.repo_id, offline=offline):
        from huggingface_hub import HfApi, snapshot_download

        if not offline:
            files = HfApi().list_repo_files(wanted.repo_id, repo_type="dataset")
            files = [file for file in files if re.fullmatch(wanted.pattern, file)]
            if not files:
                raise SourceError(
                    f"`{wanted.repo_id}` does not hold the files of `{name}` any more"
                )
        folder = Path(
            snapshot_download(
                wanted.repo_id,
                repo_type="dataset",
                allow_patterns=[] if offline else files,
                local_files_only=offline,
            )
        )
    # One file, or the folder of several.
    found = sorted(
        file
        for file in folder.rglob("*")
        if re.fullmatch(wanted.pattern, file.relative_to(folder).as_posix())
    )
    if not found:
        raise _not_here(wanted.repo_id)
    return found[0] if len(found) == 1 else found[0].parent


def _not_here(repo_id: str) -> SourceError:
    return SourceError(
        f"`{repo_id}` is not on this machine, and offline nothing is fetched",
        hint="name a local file instead",
    )


@contextmanager
def _as_source_error(repo_id: str, *, offline: bool) -> Iterator[None]:
    """Turn every error of the hub client into a SourceError with one line."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except SourceError:
        raise
    except GatedRepoError as error:
        raise SourceError(
            f"`{repo_id}` is gated: the hub asks for consent and a login",
            hint="accept its terms on its page and set HF_TOKEN, or name a local file",
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no `{repo_id}` that may be read",
            hint="set HF_TOKEN if a login is needed, or name a local file",
        ) from error
    except LocalEntryNotFoundError as error:
        if offline:
            raise _not_here(repo_id) from error
        raise SourceError(f"cannot reach the hub for `{repo_id}`") from error
    except Exception as error:  # errors of the HTTP library have no common base across versions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"cannot download `{repo_id}`: {reason}") from error


Row = Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read all rows of a file.

    Raises SourceError if it cannot be read, has an unknown suffix, or contains something else.
    """
    readers = {
        ".parquet": _parquet_rows,
        ".json": _json_rows,
        ".jsonl": _json_line_rows,
        ".ndjson": _json_line_rows,
        ".csv": _csv_rows,
        ".tsv": _csv_rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SourceError(
            f"{display_path(path)} is not a file of questions",
            hint="known kinds: " + ", ".join(readers),
        )
    try:
        rows = list(reader(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"cannot read {display_path(path)}: {reason}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise SourceError(f"{display_path(path)} cannot be understood: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise SourceError(f"{display_path(path)}: row {number} is not a set of named values")
    if not rows:
        raise SourceError(f"{display_path(path)} holds no questions")
    return rows


def read_json(path: Path) -> Any:
    """Read a JSON file of any structure. Raises SourceError if it cannot be read."""
    try:
        return parse_json(decode_text(path.read_bytes()), unique_keys=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"cannot read {display_path(path)}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{display_path(path)} cannot be understood: {error}") from error


_PARQUET_MARK = b"PAR1"
"""First and last bytes of a Parquet file."""


def _parquet_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        begin = file.read(len(_PARQUET_MARK))
        file.seek(max(0, path.stat().st_size - len(_PARQUET_MARK)))
        if begin != _PARQUET_MARK or file.read() != _PARQUET_MARK:
            raise ValueError(
                "no Parquet file, or cut off: `PAR1` at its beginning or end is missing"
            )
    import asyncio

    try:
        from arro3.io import read_parquet_async, store
    except ImportError as error:
        raise SourceError(
            "reading parquet files needs one more package",
            hint="pip install 'smolvideo[eval]', or convert the file to .jsonl",
        ) from error

    # Read asynchronously, because `read_parquet` of a damaged file panics: it prints a stack trace
    # and raises what is no Exception.
    async def read(folder: Path, name: str) -> Any:
        return await read_parquet_async(name, store=store.LocalStore(str(folder)))

    with (
        ThreadPoolExecutor(1) as pool,  # the caller may have a running event loop
        TemporaryDirectory(prefix="smolvideo-") as copies,
    ):
        place = path.resolve()
        if not _STORE_NAME.fullmatch(place.name):
            place = Path(copies) / "rows.parquet"
            shutil.copyfile(path, place)
        try:
            table = pool.submit(asyncio.run, read(place.parent, place.name)).result()
            batches = [
                {name: batch.column(name).to_pylist() for name in batch.schema.names}
                for batch in table.to_batches()
            ]
        except Exception as error:  # plain Exceptions, without a class of their own
            reason = str(error).strip() or type(error).__name__
            raise ValueError(display_name(reason.splitlines()[0])) from error
    for columns in batches:
        yield from (
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        )


_STORE_NAME = re.compile(r"[A-Za-z0-9_.-]+")
"""Names that the store of arro3 finds; it percent-encodes others."""


def _json_rows(path: Path) -> Iterator[Row]:
    """A list of rows, plain or under one key; rows of the hub's dataset viewer; or columns."""
    content = parse_json(decode_text(path.read_bytes()), unique_keys=True)
    if isinstance(content, dict):
        lists = [value for value in content.values() if isinstance(value, list)]
        if len(lists) == 1 and all(isinstance(row, dict) for row in lists[0]):
            content = lists[0]
        elif content and len(lists) == len(content) and len({len(one) for one in lists}) == 1:
            names = list(content)
            content = [dict(zip(names, row, strict=True)) for row in zip(*lists, strict=True)]
        elif content and all(isinstance(value, dict) for value in content.values()):
            content = _columns_by_index(content)
    if not isinstance(content, list):
        raise ValueError("neither a list of rows nor columns")
    for row in content:
        wrapped = isinstance(row, dict) and isinstance(row.get("row"), dict)
        yield row["row"] if wrapped else row


def _columns_by_index(content: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Transpose pandas' default JSON: ``{"question": {"0": …, "1": …}, …}``."""
    places = list(next(iter(content.values())))
    if any(list(column) != places for column in content.values()):
        raise ValueError("neither a list of rows nor columns of one length")
    return [{name: column[place] for name, column in content.items()} for place in places]


def _json_line_rows(path: Path) -> Iterator[Row]:
    lines = decode_text(path.read_bytes()).split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield parse_json(line, unique_keys=True)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**27)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    text = io.StringIO(decode_text(path.read_bytes()), newline="")
    yield from csv.DictReader(text, delimiter=delimiter, strict=True)


class InvalidRowError(ValueError):
    """A problem in one row; the loader adds the file and the row number."""


def text_of(row: Row, name: str) -> str:
    """Return a required text. Raises InvalidRowError if it is missing or empty."""
    value = row.get(name)
    if value is None or not str(value).strip():
        raise InvalidRowError(f"has no `{name}`")
    return str(value)


def optional_text(row: Row, name: str) -> str | None:
    """Return a text, or None if it is missing or empty."""
    value = row.get(name)
    return None if value is None or not str(value).strip() else str(value)


def as_list(row: Row, name: str) -> list[str]:
    """Return a list of two or more texts, parsed from JSON or a Python literal if necessary."""
    value = row.get(name)
    if isinstance(value, str):
        for read in (parse_json, ast.literal_eval):
            try:
                value = read(value)
                break
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise InvalidRowError(f"`{name}` is not a list of two or more options")
    return [str(option) for option in value]


def as_index(value: Any) -> int | None:
    """Return an integer from 0, also written as ``2.0`` or ``"2"``; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number >= 0 and number.is_integer() else None


def as_seconds(row: Row, name: str) -> float | None:
    """Return a time in seconds, or None if it is missing."""
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidRowError(f"`{name}` is no time in seconds")
    return seconds
