"""A schema as it was given → its JSON text: from Python objects, and from the command line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smolvideo.answer_schema.short_form import parse_short_form
from smolvideo.errors import UsageError
from smolvideo.file_names import existing_path
from smolvideo.json_types import parse_strict_json
from smolvideo.sanitize import display_name, display_path
from smolvideo.text_input import decode_text, read_file_or_pipe

SchemaArgument = str | Mapping[str, Any] | type
"""A JSON Schema as a mapping or as JSON text, the short form of one, or a pydantic model."""

MAX_SCHEMA_BYTES = 64 * 1024
"""Maximum size of a schema as JSON: every answer compiles it."""


def schema_text(schema: SchemaArgument) -> str:
    """Return ``schema`` as compact JSON text. Raises UsageError where it is none.

    A pydantic model is any class with ``model_json_schema``. A string is JSON or the short form,
    never the name of a file.
    """
    if isinstance(schema, str):
        content = _parse_text(schema)
    elif isinstance(schema, Mapping):
        content = dict(schema)
    elif callable(to_schema := getattr(schema, "model_json_schema", None)):
        content = to_schema()
    else:
        raise UsageError(
            f"a schema is a mapping, a text or a pydantic model, not {schema!r:.60}",
            hint="pass a JSON Schema as a dict",
        )
    if not isinstance(content, dict):
        raise UsageError('a schema is a JSON object, such as `{"type": "object", …}`')
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the schema is no JSON: {error}") from error
    if size > MAX_SCHEMA_BYTES:
        raise UsageError(
            f"the schema has {size:,} bytes: at most {MAX_SCHEMA_BYTES:,} are compiled"
        )
    return text


def read_schema(argument: str) -> str:
    """Return the JSON text of a schema named on the command line: a file, JSON, or the short form.

    Raises UsageError where it is none of them, or the file cannot be read.
    """
    text = argument.strip()
    if not text:
        raise UsageError("the schema is empty", hint="such as `--schema 'name, count int'`")
    if text.startswith("{"):
        return schema_text(text)
    path = existing_path(Path(text)) if _may_be_path(text) else None
    if path is None:
        return schema_text(text)
    try:
        content = read_file_or_pipe(path, MAX_SCHEMA_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            f"cannot read the schema {display_path(path)}: {reason}",
            hint="`--schema 'name, count int'` needs no file",
        ) from error
    if len(content) > MAX_SCHEMA_BYTES:
        raise UsageError(
            f"the schema {display_path(path)} has more than {MAX_SCHEMA_BYTES:,} bytes"
        )
    try:
        return schema_text(decode_text(content))
    except UnicodeDecodeError as error:
        raise UsageError(f"the schema {display_path(path)} is not text") from error
    except UsageError as error:
        raise UsageError(f"{display_path(path)}: {error}", hint=error.hint) from error


def _may_be_path(text: str) -> bool:
    """Whether ``text`` is an existing file, or looks like the name of one."""
    if text.lower().endswith(".json"):
        return True
    if any(mark in text for mark in ",|:\n"):
        return False
    try:
        return "/" in text or "\\" in text or existing_path(Path(text)).is_file()
    except (OSError, ValueError):
        return False


def _parse_text(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[", '"')):
        return parse_short_form(text)
    try:
        return parse_strict_json(text)
    except ValueError as error:
        raise UsageError(
            f"the schema is no JSON: {error}", hint=f"it begins `{display_name(text.strip()[:40])}`"
        ) from error
