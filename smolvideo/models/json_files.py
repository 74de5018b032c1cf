"""Reading the small files of a checkpoint, with errors that name the file.

They come from strangers: what a JSON text can make of a parser (numbers of a thousand digits, NaN,
keys that stand there twice, files of gigabytes, pipes) is refused before it is anything else.
"""

from pathlib import Path
from typing import Any

from smolvideo.errors import ModelError
from smolvideo.json_types import parse_strict_json

Json = dict[str, Any]

MAX_TEXT_BYTES = 64 << 20
"""The largest file of a checkpoint beside its weights; a tokenizer takes 4 MB."""
_SHOWN_CHARACTERS = 80
TAKE_AS_PUBLISHED = "take the checkpoint's files as they were published, or fetch it again"


def shown(value: object) -> str:
    """``value`` as Python writes it, cut to what an error has room for."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def broken_checkpoint(what: str, *, folder: Path | None = None) -> ModelError:
    """The error for a checkpoint, that of ``folder``, whose files say what cannot be."""
    which = f" `{folder}`" if folder is not None else ""
    return ModelError(f"broken checkpoint{which}: {what}", hint=TAKE_AS_PUBLISHED)


def read_text(path: Path) -> str:
    """The text of ``path``. Raises ModelError where it is missing, no file, too large or not
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
    """The object in ``path``. Raises ModelError where it is missing, unreadable or no object."""
    text = read_text(path)
    try:
        content = parse_strict_json(text)
    except ValueError as error:
        raise broken_checkpoint(f"`{path}` is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise broken_checkpoint(f"`{path}` holds no JSON object")
    return content


def read_optional_json(path: Path) -> Json:
    """The object in ``path``, or an empty one where there is nothing of that name."""
    return read_json(path) if path.exists() else {}
