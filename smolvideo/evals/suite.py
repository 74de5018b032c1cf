"""Suite of runs: models × benchmarks × settings of a TOML file, as options of each run."""

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_text, open_regular

MAX_BYTES = 2**20
MAX_RUNS = 1_000
_TABLES = {"model": "model", "benchmark": "benchmark", "setting": "name"}
"""Array of tables → the key that each of its tables needs."""

Options = Mapping[str, Any]
"""Option of ``eval BENCHMARK`` without its dashes → value."""


@dataclass(frozen=True, eq=False)
class SuiteRun:
    """One run: its three names in the table, its folder, and its options; ``file`` is FILE."""

    model: str
    benchmark: str
    setting: str
    folder: Path
    command: str
    options: Options


@dataclass(frozen=True)
class Suite:
    """The runs of a file, model by model; paths are relative to ``folder``, that of the file."""

    folder: Path
    runs: tuple[SuiteRun, ...]


def read_suite(path: Path, runs_folder: Path | None = None) -> Suite:
    """Read a suite; ``runs_folder`` is that of the runs, by default ``runs/NAME``.

    Raises UsageError, with one line, for a file that is no suite.
    """
    content = _parse(path)
    shown = display_path(path)
    unknown = [name for name in content if name not in (*_TABLES, "options")]
    if unknown:
        raise UsageError(
            f"{shown}: unknown key `{display_name(unknown[0])}`",
            hint="a suite has [options], [[model]], [[benchmark]] and [[setting]]",
        )
    common = _options(content.get("options", {}), f"{shown}: [options]")
    tables = {name: _tables(content, name, shown) for name in _TABLES}
    for name in ("model", "benchmark"):
        if not tables[name]:
            raise UsageError(f"{shown} has no [[{name}]]")
    settings = tables["setting"] or [("", {})]
    count = len(tables["model"]) * len(tables["benchmark"]) * len(settings)
    if count > MAX_RUNS:
        raise UsageError(f"{shown} has {count:,} runs, more than {MAX_RUNS:,}")
    target = runs_folder or Path("runs") / (_plain(path.stem) or "suite")
    runs = []
    chosen = (tables["model"], tables["benchmark"], settings)
    for model, benchmark, setting in itertools.product(*chosen):
        options = {**common, **model[1], **benchmark[1], **setting[1]}
        command = options.pop("benchmark")
        names = (model[0], benchmark[0], setting[0])
        folder = target / "--".join(_plain(name) for name in names if name)
        runs.append(SuiteRun(*names, folder, command, options))
    _check_folders(runs, shown)
    return Suite(path.parent, tuple(runs))


def _parse(path: Path) -> dict[str, Any]:
    shown = display_path(path)
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{shown} is larger than {MAX_BYTES // 1024} KiB")
        return tomllib.loads(decode_text(content))
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror or error}") from error
    except RecursionError as error:
        raise UsageError(f"{shown}: invalid TOML: it is nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{shown}: invalid TOML: {display_name(str(error), 200)}") from error


def _tables(content: Mapping[str, Any], name: str, shown: str) -> list[tuple[str, Options]]:
    """The names and options of an array of tables."""
    found = content.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise UsageError(f"{shown}: `{name}` is written as [[{name}]]")
    named: dict[str, Options] = {}
    for number, table in enumerate(found, 1):
        place = f"{shown}: [[{name}]] {number}"
        key = _TABLES[name]
        title = table.get("name", table.get(key))
        for wanted, value in ((key, table.get(key)), ("name", title)):
            if not isinstance(value, str) or not value.strip():
                raise UsageError(f"{place} needs `{wanted}`, a text")
        if name == "benchmark" and table[key] not in SCHEMAS:
            raise UsageError(
                f"{place}: no such benchmark: `{display_name(table[key])}`",
                hint="one of " + ", ".join(SCHEMAS),
            )
        if title in named:
            raise UsageError(
                f"{place} has the name of another one: `{display_name(title)}`",
                hint="give each a `name` of its own",
            )
        own = {one: value for one, value in table.items() if one != "name"}
        named[title] = _options(own, place, name)
    return list(named.items())


_OF_THE_SUITE = ("run", "json", "quiet", "group", "help", "debug")


_OF_ONE_TABLE = {"model": "model", "benchmark": "benchmark", "file": "benchmark"}
"""Option → the only array of tables that may have it: it is in the names of the runs."""


def _options(table: Any, place: str, kind: str | None = None) -> dict[str, Any]:
    """Check that a table has texts, numbers and lists of them; ``kind`` is its array of tables."""
    if not isinstance(table, dict):
        raise UsageError(f"{place} is no table")
    for name, value in table.items():
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise UsageError(f"{place}: `{display_name(name)}` is no option")
        if name in _OF_THE_SUITE:
            raise UsageError(f"{place}: `{name}` is not for one run of a suite")
        if (owner := _OF_ONE_TABLE.get(name, kind)) != kind:
            raise UsageError(f"{place}: `{name}` belongs into [[{owner}]]")
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in values):
            raise UsageError(f"{place}: `{name}` is no text or number")
    return dict(table)


def _check_folders(runs: Sequence[SuiteRun], shown: str) -> None:
    seen: dict[str, SuiteRun] = {}
    for run in runs:
        same = seen.setdefault(str(run.folder).casefold(), run)
        if same is not run:
            raise UsageError(
                f"{shown}: two runs would be in {display_path(run.folder)}",
                hint="names that differ by more than their marks",
            )


def _plain(name: str) -> str:
    """A name as part of a folder's name."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip("-.")
    return plain[-60:]


def to_arguments(options: Options, flags: Sequence[str]) -> Iterator[str]:
    """Yield the words of a command line; ``flags`` are the options without a value.

    Raises UsageError for a value of a flag that is not true or false.
    """
    for name, value in options.items():
        if name == "file":
            continue
        if name in flags or isinstance(value, bool):
            if not isinstance(value, bool):
                raise UsageError(f"`{name}` is true or false, not `{display_name(str(value))}`")
            if name not in flags:
                raise UsageError(f"`{name}` has a value, and is not true or false")
            if value:
                yield f"--{name}"
            continue
        for one in value if isinstance(value, list) else [value]:
            yield f"--{name}={one}"
    if "file" in options:
        yield "--"
        yield str(options["file"])
