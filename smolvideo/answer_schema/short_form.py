"""The short form of a schema: ``name, count int, tags str[], colour red|green: of the ball``.

Fields are separated by commas or line breaks. Each is a name, then its type, then a description
after a colon; the last two may be left out. A type is ``str`` (the default), ``int``, ``float`` or
``bool``, or the values of a choice with ``|`` between them; ``[]`` after it makes an array. All
fields are required, in this order, and there are no others.
"""

import re

from smolvideo.answer_schema.keywords import Schema
from smolvideo.errors import UsageError
from smolvideo.sanitize import display_name

_TYPES: dict[str, Schema] = {
    "str": {"type": "string"},
    "string": {"type": "string"},
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "integer": {"type": "integer"},
    "float": {"type": "number"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "boolean": {"type": "boolean"},
}
_NAME = re.compile(r"[^\W\d][\w-]*")
_HINT = "fields are like `name, count int, tags str[], colour red|green|blue`"


def parse_short_form(text: str) -> Schema:
    """Return the schema of an object with the fields of ``text``. Raises UsageError."""
    separator = "\n" if "\n" in text.strip() else ","
    properties: dict[str, Schema] = {}
    for field in text.split(separator):
        if not field.strip(" \t\r,"):
            continue
        name, schema = _parse_field(field.strip(" \t\r,"))
        if name in properties:
            raise UsageError(f"the field `{display_name(name)}` is in the schema twice")
        properties[name] = schema
    if not properties:
        raise UsageError("the schema has no fields", hint=_HINT)
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _parse_field(text: str) -> tuple[str, Schema]:
    declared, _, description = text.partition(":")
    name, *rest = declared.split(None, 1)
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{display_name(name)}` is no name of a field", hint=_HINT)
    schema = _parse_type(rest[0].strip()) if rest else dict(_TYPES["str"])
    if description.strip():
        schema["description"] = description.strip()
    return name, schema


def _parse_type(text: str) -> Schema:
    if text.endswith("[]"):
        return {"type": "array", "items": _parse_type(text[:-2].strip())}
    if "|" in text:
        values = [value.strip() for value in text.split("|")]
        if not all(values) or len(set(values)) < len(values):
            raise UsageError(f"`{display_name(text)}` has an empty or a repeated choice")
        return {"enum": values}
    if text.lower() not in _TYPES:
        raise UsageError(f"unknown type `{display_name(text)}`", hint=_HINT)
    return dict(_TYPES[text.lower()])
