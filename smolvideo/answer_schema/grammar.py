"""Grammars of llguidance from JSON schemas.

llguidance (MIT) computes the tokens with which a text may continue; schemas that it cannot follow
in full it refuses, naming the keyword. White space is fixed to that of ``json.dumps``: a small
model could write blanks for ever.
"""

import json
import re
from functools import lru_cache
from importlib.util import find_spec

from smolvideo.answer_schema.bounds import bounded
from smolvideo.answer_schema.keywords import Schema, check_keywords
from smolvideo.errors import ModelError, UsageError
from smolvideo.sanitize import escape_controls

_OPTIONS = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": False,
    "lenient": False,
}
_FAILED = re.compile(r"^.*?failed to compile JSON schema: ", re.DOTALL)
_EXCERPT = re.compile(r"\n\s*\d+ \| .*$", re.DOTALL)
_TYPES = "string, number, integer, boolean, object, array, null"
_REWORDED = (
    (r"oneOf constraints are not supported.*", "a value could match several cases of `oneOf`"),
    (r"Unimplemented keys: \[(.*)\]", r"the keywords \1"),
    (r"regex parse error:.*error: ", "`pattern`: "),
    (r"lookarounds not supported yet.*", r"`pattern`: word boundaries (`\\b`) are not supported"),
    (r"Unsatisfiable schema: ", "no value satisfies it: "),
    (r"Regex is empty: .*", "`pattern`, `format` and the limits of length exclude each other"),
    (r"Invalid type: (\S+)", rf"`\1` is no type: {_TYPES}"),
    (r"type must be a string.*", f"`type` must name one or more of {_TYPES}"),
    (r"Unknown format: (\S+)", r"`\1` is no `format` of JSON schemas"),
    (r"Expected positive integer for '(\w+)', got (.*)", r"`\1` must be a whole number, not \2"),
    (r"Expected f64 for '(\w+)', got (.*)", r"`\1` must be a number, not \2"),
    (r"Expected string for '(\w+)', got (.*)", r"`\1` must be a string, not \2"),
    (r"invalid multiple of", "`multipleOf` must be above 0"),
    (r"schema must be an object or boolean", "a schema in it is no object"),
    (r"(\w+) must be an array", r"`\1` must be a list"),
    (r"Pointer '([^']*)' does not exist", r"`$ref` names `#\1`, which is not in it"),
    (r"failed to parse \"%json\".*", "a number in it is not finite"),
)
"""What llguidance reports, and what we say instead."""
_HINTS = {"oneOf": "use `anyOf`, or tell the cases apart by a required property with a `const`"}
_MAX_REASON = 300


def check_installed() -> None:
    """Raise ModelError where llguidance is missing."""
    if find_spec("llguidance") is None:
        raise ModelError(
            "answers by a schema need llguidance, which is not installed",
            hint="pip install 'smolvideo[json]'",
        )


@lru_cache(maxsize=32)
def compile_grammar(schema: str, opening: str = "") -> str:
    """Return the grammar of ``opening``, then a JSON text that ``schema`` allows.

    ``schema`` is JSON text of an object (see ``schema_text``); strings, arrays and numbers without
    limits get those of ``bounds``.

    Raises UsageError, naming the keyword, for a schema that is invalid, that allows no value, or
    that uses what is not supported; ModelError where llguidance is not installed.
    """
    content: Schema = json.loads(schema)
    check_keywords(content)
    check_installed()
    # As it is first: limits must not hide that cases of `oneOf` overlap.
    reason = _problem(_to_lark(content))
    if reason is not None:
        hint = next((hint for word, hint in _HINTS.items() if word in reason), None)
        raise UsageError(f"the schema is not supported: {reason}", hint=hint)
    limited = bounded(content, _fits_pattern)
    if _problem(_to_lark(limited)) is not None:
        limited = content  # its own limits and ours contradict each other
    return _to_lark(limited, opening)


def _to_lark(content: Schema, opening: str = "") -> str:
    written = json.dumps({**content, "x-guidance": _OPTIONS})
    before = f"{json.dumps(opening)} " if opening else ""
    return f"start: {before}document\ndocument: %json {written}\n"


def _problem(grammar: str) -> str | None:
    """Return why a grammar cannot be used, None where it can."""
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    if not matcher.is_error():
        matcher.compute_bitmask()  # a schema that only refers to itself fails here
    if not matcher.is_error():
        return None
    reason = _EXCERPT.sub("", _FAILED.sub("", matcher.get_error()))
    if reason.startswith("NoExtension"):
        return "no value satisfies it"
    if '"pattern' not in grammar and "exceed the maximum number of nested" in reason:
        return "a bound of its numbers has too many digits"
    for pattern, words in _REWORDED:
        reason = re.sub(pattern, words, reason, flags=re.DOTALL)
    return escape_controls(" ".join(reason.split()))[:_MAX_REASON]


def _fits_pattern(pattern: str, length: int) -> bool:
    node = {"type": "string", "pattern": pattern, "maxLength": length}
    return _problem(_to_lark(node)) is None
