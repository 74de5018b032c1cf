"""Default limits of a schema, so that the answer of a small model ends.

A model of 256M weights that may write a string, an array or a number of any length sometimes
repeats itself until no token is left. What the schema limits itself stays as it is. Everything
that the limited schema allows, the schema allows, too.
"""

import math
from collections.abc import Callable
from typing import Any

from smolvideo.answer_schema.keywords import (
    ARRAY_KEYWORDS,
    COMBINING_KEYWORDS,
    NUMBER_KEYWORDS,
    OBJECT_KEYWORDS,
    STRING_KEYWORDS,
    Schema,
    walk,
)

MAX_STRING_LENGTH = 200
"""Characters of a string without ``maxLength``."""
MAX_ITEMS = 20
"""Items of an array without ``maxItems``, and entries of an object that names none."""
MAX_INTEGER = 2**53 - 1
"""Largest integer of RFC 8259 that every reader of JSON represents exactly."""
MAX_NUMBER = 1e15
NUMBER_STEP = 1e-6
"""Numbers without ``multipleOf`` have six decimals at most, and no exponent."""

_KEY_PATTERN = '^[^"\\\\\\x00-\\x1f\\x7f]{1,64}$'
_MAX_RANGE_TO_STEP = 1e-3
_FREE_KEYWORDS = frozenset({"type", *STRING_KEYWORDS, *NUMBER_KEYWORDS}) | (
    ARRAY_KEYWORDS | OBJECT_KEYWORDS | COMBINING_KEYWORDS
)
_TYPE_OF_KEYWORDS = (
    ("object", OBJECT_KEYWORDS),
    ("array", ARRAY_KEYWORDS),
    ("string", STRING_KEYWORDS),
    ("number", NUMBER_KEYWORDS),
)

FitsPattern = Callable[[str, int], bool]
"""``(pattern, length)``: whether a string of at most that length can match."""


def bounded(root: Schema, fits_pattern: FitsPattern) -> Schema:
    """Return a copy of ``root``, a schema that ``check_keywords`` accepts, with default limits."""
    nodes = [node for _, node in walk(root)]
    longest = max((_count(node, "minLength") for node in nodes), default=0)
    most_items = max((_count(node, "minItems") for node in nodes), default=0)
    limits = _Limits(
        max(MAX_STRING_LENGTH, longest),
        max(MAX_ITEMS, most_items),
        frozenset(_refs_in_parts(nodes)),
        fits_pattern,
    )
    limited: Schema = limits.apply(root, "#")
    return limited


def _count(node: Schema, name: str) -> int:
    value = node.get(name)
    return value if isinstance(value, int) else 0


def _refs_in_parts(nodes: list[Schema]) -> list[str]:
    """References to schemas that hold a part of a value only: other parts say the rest."""
    parts = []
    for node in nodes:
        branches = node.get("allOf", ())
        if len(branches) > 1 or (branches and not OBJECT_KEYWORDS.isdisjoint(node)):
            parts += [branch for branch in branches if isinstance(branch, dict)]
        if not OBJECT_KEYWORDS.isdisjoint(node):
            parts.append(node)
    return [part["$ref"] for part in parts if "$ref" in part]


class _Limits:
    """Limits of one schema: ``parts`` are references to schemas that are not closed."""

    def __init__(
        self, length: int, items: int, parts: frozenset[str], fits_pattern: FitsPattern
    ) -> None:
        self._length = length
        self._items = items
        self._parts = parts
        self._fits_pattern = fits_pattern

    def apply(self, node: Any, pointer: str, *, is_part: bool = False) -> Any:
        """Limit ``node`` and the schemas inside; ``is_part``: others apply to the same value."""
        if node is True or (isinstance(node, dict) and _FREE_KEYWORDS.isdisjoint(node)):
            return self._scalar() if not is_part else node
        if not isinstance(node, dict):
            return node
        is_part = is_part or pointer in self._parts
        limited = self._inside(node, pointer, is_part=is_part)
        if not is_part and COMBINING_KEYWORDS.isdisjoint(node) and "type" not in node:
            limited["type"] = _implied_type(node)
        if "enum" in node or "const" in node:
            return limited
        declared = limited.get("type")
        types = {declared} if isinstance(declared, str) else set(declared or ())
        if "string" in types:
            self._limit_string(limited)
        if "array" in types:
            self._limit_array(limited, is_part=is_part)
        if "object" in types and not is_part and COMBINING_KEYWORDS.isdisjoint(node):
            self._limit_object(limited)
        _include_bounds(limited, is_integer=types == {"integer"})
        if types & {"number", "integer"} and not is_part:
            _limit_number(limited, is_integer="number" not in types)
        return limited

    def _inside(self, node: Schema, pointer: str, *, is_part: bool) -> Schema:
        """Return a copy of ``node`` with limits in the schemas inside of it."""
        limited = dict(node)
        if node.get("properties") and node.get("additionalProperties") in (True, {}):
            del limited["additionalProperties"]  # a permission, which need not be used
        for name in ("items", "additionalItems", "additionalProperties"):
            if isinstance(limited.get(name), dict) or limited.get(name) is True:
                limited[name] = self.apply(node[name], f"{pointer}/{name}")
        for name in ("anyOf", "oneOf", "allOf", "prefixItems", "items"):
            if isinstance(node.get(name), list):
                parts = is_part or name == "allOf" or not OBJECT_KEYWORDS.isdisjoint(node)
                limited[name] = [
                    self.apply(
                        one, f"{pointer}/{name}/{at}", is_part=parts and not name.endswith("tems")
                    )
                    for at, one in enumerate(node[name])
                ]
        for name in ("properties", "patternProperties", "$defs", "definitions"):
            if isinstance(node.get(name), dict):
                limited[name] = {
                    key: self.apply(one, f"{pointer}/{name}/{_escape(key)}")
                    for key, one in node[name].items()
                }
        return limited

    def _scalar(self) -> Schema:
        """What stands for a value of any type: one without an inside."""
        types = ({"type": "string"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"})
        return {"anyOf": [self.apply(one, "") for one in types]}

    def _limit_string(self, node: Schema) -> None:
        if "maxLength" in node:
            return
        pattern = node.get("pattern")
        if pattern is None or self._fits_pattern(pattern, self._length):
            node["maxLength"] = self._length

    def _limit_array(self, node: Schema, *, is_part: bool) -> None:
        items = node.get("items")
        # Until draft 2019-09 a list of `items` was what `prefixItems` is now.
        first, rest = (items, "additionalItems") if isinstance(items, list) else ([], "items")
        first = node.get("prefixItems", first)
        if rest not in node and not is_part:
            closes = bool(first) and _count(node, "minItems") <= len(first)
            node[rest] = False if closes else self._scalar()
        node.setdefault("maxItems", max(self._items, len(first)))

    def _limit_object(self, node: Schema) -> None:
        names = node.get("properties", {})
        missing = [name for name in node.get("required", ()) if name not in names]
        if missing and node.get("additionalProperties") is not False:
            rest = node.get("additionalProperties", self._scalar())
            node["properties"] = {**names, **dict.fromkeys(missing, rest)}
        if "patternProperties" in node or node.get("properties"):
            node.setdefault("additionalProperties", False)
        elif node.get("additionalProperties") is not False:
            # Names of at most 64 characters; those of `additionalProperties` would have no limit.
            rest = node.get("additionalProperties", self._scalar())
            node["patternProperties"] = {_KEY_PATTERN: rest}
            node["additionalProperties"] = False
        required = set(node.get("required", ()))
        if "patternProperties" in node and required >= set(node.get("properties", ())):
            node.setdefault("maxProperties", max(self._items, _count(node, "minProperties")))


def _include_bounds(node: Schema, *, is_integer: bool) -> None:
    """Replace exclusive bounds by inclusive ones of the next number of our decimals.

    llguidance 1.9 writes ``0`` for some narrow ranges that exclude it. Nothing is changed where the
    range would become empty.
    """
    low, high = _lowest(node), _highest(node)
    width = None if low is None or high is None else high - low
    step = float(node.get("multipleOf", NUMBER_STEP))
    if "multipleOf" in node:
        step /= 1000
    elif width is not None and width > 0:
        step = min(step, 10.0 ** (math.floor(math.log10(width)) - 3))
    if width is not None and width <= 2 * step:
        return
    for inclusive, exclusive, sign in (
        ("minimum", "exclusiveMinimum", 1),
        ("maximum", "exclusiveMaximum", -1),
    ):
        bound = node.get(exclusive)
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            continue
        if is_integer:
            bound = math.floor(bound) + 1 if sign > 0 else math.ceil(bound) - 1
        else:
            away = math.nextafter(bound, sign * math.inf)
            bound = max(bound + step, away) if sign > 0 else min(bound - step, away)
        tighter = max if sign > 0 else min
        node[inclusive] = tighter(bound, node.get(inclusive, bound))
        del node[exclusive]


def _limit_number(node: Schema, *, is_integer: bool) -> None:
    most = MAX_INTEGER if is_integer else MAX_NUMBER
    least, greatest = _lowest(node), _highest(node)
    if least is None and (greatest is None or greatest > -most):
        node["minimum"] = -most
    if greatest is None and (least is None or least < most):
        node["maximum"] = most
    is_wide = least is None or greatest is None or greatest - least > _MAX_RANGE_TO_STEP
    if not is_integer and is_wide:
        node.setdefault("multipleOf", NUMBER_STEP)


def _lowest(node: Schema) -> float | None:
    return _bound(node, "minimum", "exclusiveMinimum", max)


def _highest(node: Schema) -> float | None:
    return _bound(node, "maximum", "exclusiveMaximum", min)


def _bound(
    node: Schema, inclusive: str, exclusive: str, tighter: Callable[..., float]
) -> float | None:
    found = [node.get(name) for name in (inclusive, exclusive)]
    numbers = [one for one in found if isinstance(one, int | float) and not isinstance(one, bool)]
    return tighter(numbers) if numbers else None


def _implied_type(node: Schema) -> str:
    """The type of values that the keywords of a schema without ``type`` are about."""
    return next(name for name, known in _TYPE_OF_KEYWORDS if not known.isdisjoint(node))


def _escape(key: str) -> str:
    """Spell ``key`` as in a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
