"""Options ``--list`` and ``--allow-outside``: sources from a file."""

from collections.abc import Mapping
from typing import Any

from smolvideo.cli.options import Decorator, add_options, option
from smolvideo.cli.params import FilePath
from smolvideo.errors import UsageError
from smolvideo.source import Named, read_source_list


def list_options(section: str) -> Decorator:
    """``--list`` and ``--allow-outside``, under the heading ``section``."""
    return add_options(
        section,
        option(
            "--list",
            "-a",
            "source_list",
            type=FilePath(),
            metavar="FILE",
            show_default="none",
            help="More sources, one a line; - is stdin. Files lie in the folder of FILE or below.",
        ),
        option(
            "--allow-outside",
            is_flag=True,
            default=False,
            help="Let the list name files anywhere.",
        ),
    )


def allows_outside(given: Mapping[str, Any]) -> bool:
    """Read ``--allow-outside``. Raises UsageError without ``--list``."""
    if given["allow_outside"] and given["source_list"] is None:
        raise UsageError("`--allow-outside` is about the files of a `--list`: there is none")
    return bool(given["allow_outside"])


def read_list(given: Mapping[str, Any]) -> list[Named]:
    """Read the sources of ``--list``; empty without one. Raises SourceError, UsageError."""
    allow_outside, path = allows_outside(given), given["source_list"]
    return [] if path is None else read_source_list(path, allow_outside=allow_outside)
