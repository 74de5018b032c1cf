"""Schemas compile to grammars with default limits; what cannot be honoured is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from smolvideo.answer_schema import (
    MAX_ITEMS,
    MAX_STRING_LENGTH,
    compile_grammar,
    read_schema,
    schema_text,
)
from smolvideo.errors import UsageError

OBJECT = {"type": "object"}


def limited(schema: Any) -> dict[str, Any]:
    """Return the schema that the grammar is made of."""
    grammar = compile_grammar(schema_text(schema))
    content = json.loads(grammar.partition("%json ")[2])
    assert isinstance(content, dict)
    del content["x-guidance"]
    return content


def test_short_form_is_an_object_of_required_fields_in_their_order() -> None:
    schema = json.loads(schema_text("name, count int, share float, seen bool: at all?, tags str[]"))
    assert list(schema["properties"]) == ["name", "count", "share", "seen", "tags"]
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    assert schema["properties"]["seen"] == {"type": "boolean", "description": "at all?"}
    assert schema["properties"]["tags"] == {"type": "array", "items": {"type": "string"}}


def test_short_form_has_choices_and_lines() -> None:
    schema = json.loads(schema_text("colour red | dark blue\nsizes small|large[]\n"))
    assert schema["properties"]["colour"] == {"enum": ["red", "dark blue"]}
    assert schema["properties"]["sizes"]["items"] == {"enum": ["small", "large"]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no fields"),
        ("count integr", "unknown type `integr`"),
        ("a, a", "`a` is in the schema twice"),
        ("two words here", "unknown type `words here`"),
        ("1st", "`1st` is no name"),
        ("colour red||blue", "empty or a repeated choice"),
        ('{"type": ', "the schema is no JSON"),
        ("[1]", "a schema is a JSON object"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"minimum": NaN}', "the schema is no JSON"),
        ("{" + '"a": {' * 2000 + "}" * 2001, "nested"),
        ('{"description": "' + "x" * 70_000 + '"}', "at most 65,536"),
    ],
)
def test_text_that_is_no_schema_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compile_grammar(schema_text(text))


@pytest.mark.parametrize("value", [3, None, ["name"], object(), int])
def test_object_that_is_no_schema_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="a schema is a mapping, a text or a pydantic model"):
        schema_text(value)


def test_class_with_a_json_schema_is_a_schema() -> None:
    class Model:
        @staticmethod
        def model_json_schema() -> dict[str, Any]:
            return {"type": "integer"}

    assert schema_text(Model) == '{"type":"integer"}'


def test_file_inline_and_short_form_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("schema").write_text('{"type": "string"}')
    Path("fields.txt").write_text("name\ncount int\n")
    assert read_schema("schema") == '{"type":"string"}'
    assert list(json.loads(read_schema("fields.txt"))["properties"]) == ["name", "count"]
    assert read_schema('{"type": "string"}') == '{"type":"string"}'
    assert list(json.loads(read_schema("other"))["properties"]) == ["other"]


@pytest.mark.parametrize("name", ["missing.json", "folder/none", "folder"])
def test_schema_file_that_cannot_be_read_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    if name == "folder":
        name = "./folder"
    with pytest.raises(UsageError, match="cannot read the schema"):
        read_schema(name)


def test_schema_file_with_another_content_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_bytes(b" " * 70_000)
    with pytest.raises(UsageError, match=r"a\.json.*no JSON"):
        read_schema(str(tmp_path / "a.json"))
    with pytest.raises(UsageError, match=r"b\.json.*more than 65,536 bytes"):
        read_schema(str(tmp_path / "b.json"))


def test_strings_arrays_and_numbers_get_limits() -> None:
    assert limited({"type": "string"})["maxLength"] == MAX_STRING_LENGTH
    assert limited({"type": "string", "maxLength": 7})["maxLength"] == 7
    assert limited({"type": "string", "minLength": 900})["maxLength"] == 900
    assert limited({"type": ["null", "string"]})["maxLength"] == MAX_STRING_LENGTH
    assert limited({"type": "array"})["maxItems"] == MAX_ITEMS
    assert limited({"type": "array", "minItems": 30})["maxItems"] == 30
    assert limited({"type": "integer"})["maximum"] == 2**53 - 1
    assert limited({"type": "number"})["multipleOf"] == 1e-6
    assert "multipleOf" not in limited({"type": "number", "minimum": 0, "maximum": 1e-4})
    assert limited({"type": "integer", "minimum": 10**17}) == {"type": "integer", "minimum": 10**17}


def test_values_of_enum_and_const_stay_as_they_are() -> None:
    for schema in ({"enum": ["x" * 300, 1]}, {"const": [1] * 30}):
        assert limited(schema) == schema


def test_objects_are_closed_and_free_ones_limited() -> None:
    closed = limited({"type": "object", "properties": {"a": {"type": "null"}}})
    assert closed["additionalProperties"] is False
    for permission in (True, {}):
        open_object = {"properties": {"a": {"type": "null"}}, "additionalProperties": permission}
        assert limited(open_object)["additionalProperties"] is False
    free = limited(OBJECT)
    assert free["maxProperties"] == MAX_ITEMS
    assert free["additionalProperties"] is False
    assert len(free["patternProperties"]) == 1
    undeclared = limited({"type": "object", "properties": {}, "required": ["b"]})
    assert list(undeclared["properties"]) == ["b"]


def test_parts_of_one_object_are_not_closed_against_each_other() -> None:
    parts = [
        {"properties": {"a": {"const": 1}}, "required": ["a"]},
        {"properties": {"b": {"const": 2}}, "required": ["b"]},
    ]
    for schema in (
        {"allOf": parts},
        {"$defs": {"x": parts[0]}, "allOf": [{"$ref": "#/$defs/x"}, parts[1]]},
        {"$defs": {"x": parts[0]}, "$ref": "#/$defs/x", **parts[1]},
    ):
        assert "additionalProperties" not in json.dumps(limited(schema))


def test_pattern_that_needs_more_than_the_limit_has_none() -> None:
    assert "maxLength" not in limited({"type": "string", "pattern": "^a{300}$"})
    assert limited({"type": "string", "pattern": "^a+$"})["maxLength"] == MAX_STRING_LENGTH


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "array", "uniqueItems": True}, "`uniqueItems`"),
        ({"properties": {"a": {"not": {}}}}, "`not` in `properties.a`"),
        ({"if": {}, "then": {}}, "`if`"),
        ({"contains": {}}, "`contains`"),
        ({"propertyNames": {}}, "`propertyNames`"),
        ({"dependentRequired": {}}, "`dependentRequired`"),
        ({"$ref": "https://example.com/x.json"}, "`\\$ref`.*another document"),
        ({"$ref": "#/$defs/none"}, "none"),
        ({"type": "string", "format": "colour"}, "`colour` is no `format`"),
        ({"type": "string", "pattern": "(?=a)b"}, "`pattern`.*look-ahead"),
        ({"type": "string", "pattern": "("}, "`pattern`"),
        ({"type": "strnig"}, "`strnig` is no type: string, number"),
        ({"type": [5]}, "`type` must name one or more of string"),
        ({"type": "string", "pattern": r"\bfoo"}, r"`pattern`: word boundaries \(`\\b`\)"),
        ({"type": "string", "format": "date", "maxLength": 3}, "limits of length exclude"),
        ({"type": "string", "minLength": -1}, "`minLength` must be a whole number, not -1"),
        ({"type": "number", "minimum": "3"}, "`minimum` must be a number, not"),
        ({"type": "number", "multipleOf": 0}, "`multipleOf` must be above 0"),
        ({"type": "array", "prefixItems": {}}, "`prefixItems` must be a list"),
        ({"type": "string", "maxLenght": 3}, "unknown keyword `maxLenght`"),
        ({"exclusiveMinimum": True, "minimum": 1}, "`exclusiveMinimum`"),
        ({"type": "number", "minimum": 1e-90}, "too many digits"),
        ({"enum": []}, "`enum`"),
        ({"properties": []}, "`properties`"),
        ({"required": "a"}, "`required`"),
        ({"items": "string", "type": "array"}, "not supported|no schema"),
        ({"anyOf": ["string"]}, "`anyOf.0`"),
        ({"$ref": "#"}, "no value satisfies it"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no value satisfies it"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "several cases of `oneOf`"),
    ],
)
def test_schema_that_cannot_be_followed_is_refused_by_its_keyword(schema: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compile_grammar(schema_text(schema))


def test_annotations_and_keywords_of_others_are_ignored() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Scene",
        "type": "object",
        "x-guidance": {"whitespace_flexible": True},
        "ui:order": ["a"],
        "properties": {
            "a": {"type": "null", "default": None, "description": "not", "examples": []}
        },
    }
    assert '"whitespace_flexible": false' in compile_grammar(schema_text(schema))


def test_limits_do_not_make_cases_of_one_of_exclusive() -> None:
    schema = {
        "oneOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "string"}}},
        ]
    }
    with pytest.raises(UsageError, match="several cases of `oneOf`"):
        compile_grammar(schema_text(schema))
