"""JSON schemas that are hard to follow, and random ones."""

import string
from random import Random
from typing import Any

Schema = dict[str, Any]

_TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"enum": ["a", "b"]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 1},
            },
            "required": ["name"],
        }
    },
    "$ref": "#/$defs/node",
}
_BASE = {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]}


def _object(required: list[str] | None = None, **properties: Any) -> Schema:
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed}


HARD: tuple[Schema, ...] = (
    # strings
    {"type": "string"},
    {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 5, "maxLength": 5},
    {"type": "string", "minLength": 250},
    {"type": "string", "pattern": "^a{300}$"},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    {"type": "string", "pattern": "(cat|dog)s?"},
    {"type": "string", "pattern": '^[^0-9"]+$', "maxLength": 9},
    {"type": "string", "pattern": "^\\S+\\s\\S+$", "maxLength": 20},
    {"type": "string", "pattern": '^"<image>"$'},
    {"type": "string", "pattern": "^東京|🎬$", "maxLength": 30},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"type": "string", "format": "email", "maxLength": 40},
    {"const": '<|im_end|> " \\ \n \u2028 é 東京 🎬'},
    {"enum": ["", " ", "a", "ab", "abc", "<end_of_utterance>"]},
    {"enum": [None, True, 0, -1.5, "x", [1, {"a": []}], {"b": None}]},
    # numbers
    {"type": "integer"},
    {"type": "number"},
    {"type": "integer", "minimum": -3, "maximum": 3},
    {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 103},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 0.001},
    {"type": "number", "multipleOf": 0.25, "minimum": -1, "maximum": 1},
    {"type": "integer", "minimum": 10**17},
    {"type": "integer", "maximum": -(10**17)},
    # arrays
    {"type": "array", "items": {"type": "boolean"}},
    {"type": "array", "items": {"type": "integer", "maximum": 9}, "minItems": 25},
    {"type": "array", "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "null"}, {"enum": [1]}], "minItems": 2},
    {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 4},
    {"type": "array", "items": [{"const": 1}, {"const": 2}], "additionalItems": False},
    {"type": "array", "items": {"type": "array", "items": {"type": "null"}, "maxItems": 2}},
    {"minItems": 1, "maxItems": 2, "items": {"enum": ["a"]}},
    # objects
    _object(a={"type": "null"}, b={"type": "boolean"}),
    _object([], a={"type": "null"}, b={"type": "boolean"}, c={"const": 3}),
    _object(["z"], a={"const": 1}),
    {"type": "object"},
    {"type": "object", "maxProperties": 2, "additionalProperties": {"type": "boolean"}},
    {
        "type": "object",
        "minProperties": 2,
        "maxProperties": 3,
        "additionalProperties": {"const": 1},
    },
    {"type": "object", "patternProperties": {"^x[0-9]$": {"const": 1}}, "maxProperties": 2},
    {"type": "object", "additionalProperties": False},
    {"properties": {'quo"te': {"const": 1}, "sla/sh~": {"const": 2}}, "required": ['quo"te']},
    {"properties": {"é 東京 🎬": {"const": 1}}, "required": ["é 東京 🎬"]},
    _object(deep=_object(deep=_object(deep=_object(deep={"enum": [1, 2]})))),
    # combinations
    {"anyOf": [{"type": "null"}, _object(a={"const": 1})]},
    {"oneOf": [_object(k={"const": "a"}), _object(k={"const": "b"}, v={"type": "boolean"})]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}]},
    {"allOf": [_object(a={"const": 1}), _object(b={"const": 2})]},
    {"allOf": [{"type": "string", "minLength": 3}, {"maxLength": 4}]},
    {"allOf": [{"$ref": "#/$defs/base"}, _object(n={"const": 1})], "$defs": {"base": _BASE}},
    {"$ref": "#/$defs/base", "properties": {"n": {"const": 1}}, "$defs": {"base": _BASE}},
    _TREE,
    {"type": ["string", "null", "integer"], "maxLength": 4, "minimum": 0, "maximum": 9},
    {},
    # what must be refused
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
    {"not": {"type": "string"}},
)
"""Sixty-two; the last two and the overlapping `oneOf` must be refused."""


def random_schema(random: Random, depth: int = 3) -> Schema:
    """Return a schema that nests at most ``depth`` objects or arrays, of supported keywords."""
    kinds = ["string", "integer", "number", "boolean", "null", "enum", "const"]
    if depth:
        kinds += ["object", "array", "any", "object"]
    kind = random.choice(kinds)
    if kind == "enum":
        return {"enum": random.sample([None, True, False, 0, 1.5, "a", "b c", "<image>", "é"], 3)}
    if kind == "const":
        return {"const": random.choice(["x", 7, None, [1, "a"], {"k": False}])}
    if kind == "any":
        return {"anyOf": [random_schema(random, depth - 1) for _ in range(2)]}
    if kind == "object":
        return _random_object(random, depth)
    if kind == "array":
        low = random.randrange(3)
        sizes = {"minItems": low, "maxItems": low + random.randrange(3)}
        return {"type": "array", "items": random_schema(random, depth - 1), **sizes}
    return {"type": kind, **_random_bounds(random, kind)}


def _random_object(random: Random, depth: int) -> Schema:
    names = random.sample([*string.ascii_lowercase, "two words", "é", "a/b"], random.randint(1, 4))
    properties = {name: random_schema(random, depth - 1) for name in names}
    required = [name for name in names if random.random() < 0.7]
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    if random.random() < 0.3:
        schema["additionalProperties"] = False
    return schema


def _random_bounds(random: Random, kind: str) -> Schema:
    if kind == "string":
        low = random.randrange(4)
        return random.choice(
            [
                {"minLength": low, "maxLength": low + random.randrange(8)},
                {"pattern": random.choice(["^[a-f]{1,4}$", "[0-9]", "^(yes|no)$"]), "maxLength": 9},
                {"format": random.choice(["date", "ipv4", "time"])},
            ]
        )
    if kind in ("integer", "number"):
        low = random.randrange(-50, 50)
        return {"minimum": low, "maximum": low + random.randrange(60)}
    return {}
