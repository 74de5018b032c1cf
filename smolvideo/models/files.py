"""Reading the small files of a checkpoint, with errors that name the file."""

import json
from pathlib import Path
from typing import Any

from smolvideo.errors import ModelError

Json = dict[str, Any]


def read_json(path: Path) -> Json:
    """The object in ``path``. Raises ModelError where it is missing, unreadable or no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"broken checkpoint: no `{path.name}` in `{path.parent}`") from error
    except OSError as error:
        raise ModelError(f"cannot read `{path}`: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # ValueError: bad JSON or bad UTF-8
        raise ModelError(f"broken checkpoint: `{path}` is not valid JSON") from error
    if not isinstance(content, dict):
        raise ModelError(f"broken checkpoint: `{path}` holds no JSON object")
    return content


def read_optional_json(path: Path) -> Json:
    """The object in ``path``, or an empty one where there is no such file."""
    return read_json(path) if path.is_file() else {}
