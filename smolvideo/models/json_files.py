"""Strict reading of a checkpoint's JSON files, with errors that name the file.

The files are untrusted. Refused are inputs that could exhaust or confuse a parser: integers of a
thousand digits, NaN, duplicate keys, files of gigabytes, pipes.
"""

from pathlib import Path
from typing import Any

from smolvideo.errors import ModelError
from smolvideo.json_types import parse_strict_json

Json = dict[str, Any]

MAX_TEXT_BYTES = 64 << 20
"""Maximum bytes of a checkpoint's file other than weights; a tokenizer has 4 MB."""
_SHOWN_CHARACTERS = 80
TAKE_AS_PUBLISHED = "take the checkpoint's files as they were published, or fetch it again"


def shown(value: object) -> str:
    """Return ``repr(value)``, shortened for an error message."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def broken_checkpoint(what: str, *, folder: Path | None = None) -> ModelError:
    """Return the error for a checkpoint (that of ``folder``) with invalid contents."""
    which = f" `{folder}`" if folder is not None else ""
    return ModelError(f"broken checkpoint{which}: {what}", hint=TAKE_AS_PUBLISHED)


def read_text(path: Path) -> str:
    """Return the text of ``path``. Raises ModelError if it is missing, no file, too large or not
    UTF-8."""
    try:
        if not path.exists():
            raise broken_checkpoint(f"no `{path.name}` in `{path.parent}`")
        if not path.is_file():
            raise broken_checkpoint(f"`{path}` is not a file")
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read `{path}`: {error.strerror or error}") from error
    if len(content) > MAX_TEXT_BYTES:
        raise broken_checkpoint(f"`{path}` is larger than {MAX_TEXT_BYTES >> 20} MB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise broken_checkpoint(f"`{path}` is not valid JSON: it is not UTF-8") from error


def read_json(path: Path) -> Json:
    """Return the JSON object in ``path``. Raises ModelError if missing, unreadable or no object."""
    text = read_text(path)
    try:
        content = parse_strict_json(text)
    except ValueError as error:
        raise broken_checkpoint(f"`{path}` is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise broken_checkpoint(f"`{path}` holds no JSON object")
    return content


def read_optional_json(path: Path) -> Json:
    """Return the JSON object in ``path``, or an empty one if there is no such file."""
    return read_json(path) if path.exists() else {}
