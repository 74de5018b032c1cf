"""Keywords of JSON Schema: which constrain an answer, which are refused, which are annotations.

Names are those of the drafts 4 to 2020-12. A keyword that cannot be honoured is an error that names
it, never a silence.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from smolvideo.errors import UsageError
from smolvideo.sanitize import display_name

Schema = dict[str, Any]

MAX_DEPTH = 64
"""Maximum nesting of schemas within one."""

STRING_KEYWORDS = frozenset({"minLength", "maxLength", "pattern", "format"})
NUMBER_KEYWORDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
ARRAY_KEYWORDS = frozenset({"items", "prefixItems", "additionalItems", "minItems", "maxItems"})
OBJECT_KEYWORDS = frozenset(
    {
        *("properties", "additionalProperties", "patternProperties"),
        *("required", "minProperties", "maxProperties"),
    }
)
COMBINING_KEYWORDS = frozenset({"anyOf", "oneOf", "allOf", "$ref", "enum", "const"})

_SUPPORTED = (
    STRING_KEYWORDS
    | NUMBER_KEYWORDS
    | ARRAY_KEYWORDS
    | OBJECT_KEYWORDS
    | COMBINING_KEYWORDS
    | {"type", "$defs", "definitions"}
)
_ANNOTATIONS = frozenset(
    {
        *("$schema", "$id", "id", "$anchor", "$comment", "$vocabulary", "title", "description"),
        *("default", "examples", "example", "deprecated", "readOnly", "writeOnly", "nullable"),
        *("contentEncoding", "contentMediaType", "contentSchema", "discriminator", "strict"),
    }
)
_REFUSED = {
    "not": "a schema says what an answer is",
    "if": "`anyOf` lists the cases",
    "then": "`anyOf` lists the cases",
    "else": "`anyOf` lists the cases",
    "uniqueItems": "leave it out, and remove duplicates from the answer",
    "contains": "`items` is for all items, `prefixItems` for the first ones",
    "minContains": "`minItems` counts all items",
    "maxContains": "`maxItems` counts all items",
    "propertyNames": "`patternProperties` has names by a pattern",
    "dependentRequired": "`anyOf` lists the cases",
    "dependentSchemas": "`anyOf` lists the cases",
    "dependencies": "`anyOf` lists the cases",
    "unevaluatedProperties": "`additionalProperties` is supported",
    "unevaluatedItems": "`items` is supported",
    "$dynamicRef": "`$ref` is supported",
    "$recursiveRef": "`$ref` is supported",
}

_ONE = ("items", "additionalItems", "additionalProperties")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")


def subschemas(node: Schema) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the path and the value of each schema directly inside of ``node``."""
    for name in _ONE:
        if isinstance(node.get(name), dict | bool):
            yield (name,), node[name]
    for name in _LISTS:
        if isinstance(node.get(name), list):
            yield from (((name, str(at)), one) for at, one in enumerate(node[name]))
    for name in _MAPS:
        if isinstance(node.get(name), dict):
            yield from (((name, key), one) for key, one in node[name].items())


def walk(root: Schema) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """Yield the path and the content of ``root`` and of each schema inside of it that is an object.

    Raises UsageError for what is no schema in the place of one, and for more than ``MAX_DEPTH``
    levels.
    """
    waiting: list[tuple[tuple[str, ...], Any, int]] = [((), root, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if isinstance(node, bool):
            continue
        if not isinstance(node, dict):
            raise UsageError(f"`{_shown(path)}` of the schema is no schema: an object is expected")
        if depth > MAX_DEPTH:
            raise UsageError(f"the schema is nested more than {MAX_DEPTH} levels deep")
        yield path, node
        waiting.extend(((*path, *inner), one, depth + 1) for inner, one in subschemas(node))


def check_keywords(root: Schema) -> None:
    """Raise UsageError for the first keyword that is refused, unknown but like a known one, or
    whose value is of a wrong type, and for a ``$ref`` to another document."""
    for path, node in walk(root):
        for name, value in node.items():
            where = f" in `{_shown(path)}`" if path else ""
            if name in _REFUSED and value is not False:
                raise UsageError(
                    f"the keyword `{name}`{where} of the schema is not supported",
                    hint=_REFUSED[name],
                )
            if name not in _SUPPORTED and name not in _ANNOTATIONS and name not in _REFUSED:
                _check_unknown(name, where)
            _check_value(name, value, where)


def _check_unknown(name: str, where: str) -> None:
    """Ignore a keyword that is unknown, as JSON Schema demands, but not a misspelt one."""
    spellings = {known.lower(): known for known in sorted(_SUPPORTED)}
    close = get_close_matches(name.lower(), spellings, n=1, cutoff=0.8)
    if close:
        raise UsageError(
            f"unknown keyword `{display_name(name)}`{where} of the schema",
            hint=f"did you mean `{spellings[close[0]]}`?",
        )


_MAPPINGS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_NON_EMPTY_LISTS = frozenset({"anyOf", "oneOf", "allOf", "enum"})


def _check_value(name: str, value: Any, where: str) -> None:
    if name in _MAPPINGS and not isinstance(value, dict):
        raise UsageError(f"`{name}`{where} of the schema must be an object")
    if name in _NON_EMPTY_LISTS and not (isinstance(value, list) and value):
        raise UsageError(f"`{name}`{where} of the schema must be a list with one entry or more")
    if name.startswith("exclusive") and isinstance(value, bool):
        raise UsageError(
            f"`{name}`{where} of the schema must be a number",
            hint="until draft 4 it was true or false, next to `minimum` or `maximum`",
        )
    if name == "required" and not (
        isinstance(value, list) and all(isinstance(one, str) for one in value)
    ):
        raise UsageError(f"`required`{where} of the schema must be a list of names")
    if name == "$ref" and not (isinstance(value, str) and value.startswith("#")):
        raise UsageError(
            f"`$ref`{where} of the schema refers to another document: `{value!s:.80}`",
            hint="only `#/$defs/NAME` and the like are supported: copy the other schema there",
        )


def _shown(path: tuple[str, ...]) -> str:
    return display_name(".".join(path)) if path else "the schema"
