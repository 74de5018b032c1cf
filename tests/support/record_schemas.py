"""JSON Schemas of ``smolvideo/schemas``: validation, types from the dataclasses, tables of the
docs.

Types, bounds and required keys come from the dataclasses of the records. Descriptions, units and
the contents of mappings are written in the schemas. The tables of ``docs/records.md`` are generated
from the schemas.
"""

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonschema import Draft202012Validator
from support.project import ROOT

from smolvideo.answer import AnswerCheck, AnswerEvidence, ChoiceProbabilities, EvidenceFrame, Usage
from smolvideo.answer_schema import SchemaArgument
from smolvideo.bench.frame_report import FileResult, MethodResult
from smolvideo.bench.measure import Measurement
from smolvideo.bench.picture import PictureMeasurement
from smolvideo.bench.report import BenchOptions
from smolvideo.calibration import Calibration, ReliabilityBin
from smolvideo.conversation.event_log import SavedAttachment
from smolvideo.conversation.turns import Turn
from smolvideo.doctor import Finding
from smolvideo.engines import GenerationOptions
from smolvideo.evals.item import EvalItem
from smolvideo.evals.run_records import EvalAnswer, EvalVideo, RunInfo, RunShard
from smolvideo.evals.settings import EvalSettings
from smolvideo.evals.statistics import Bounds, PairedComparison
from smolvideo.frames import Discontinuity, VideoMetadata
from smolvideo.index.hits import Hit
from smolvideo.json_types import Within
from smolvideo.prompt import PromptOptions
from smolvideo.records import AnswerRecord, RecordHashes, SourceRecord
from smolvideo.replay import Difference
from smolvideo.sampling import FrameSampling, RelativeTime
from smolvideo.source import VideoSource
from smolvideo.summaries.record_log import Chapter, Note, SummaryRecord
from smolvideo.train.exam import ExamOptions
from smolvideo.train.exam.run import ExamAnswer

FOLDER = ROOT / "smolvideo" / "schemas"
PAGE = ROOT / "docs" / "records.md"
DIALECT = "https://json-schema.org/draft/2020-12/schema"

RECORDS: dict[str, type] = {
    "answer": AnswerRecord,
    "summary": SummaryRecord,
    "eval-run": RunInfo,
    "eval-item": EvalItem,
    "eval-answer": EvalAnswer,
    "eval-video": EvalVideo,
    "exam-answer": ExamAnswer,
}
"""Schema → the dataclass with all of its keys; other schemas are written by hand."""

DEFINITIONS: dict[str, type] = {
    "source": SourceRecord,
    "hashes": RecordHashes,
    "note": Note,
    "chapter": Chapter,
    "sampling": FrameSampling,
    "prompt_options": PromptOptions,
    "generation": GenerationOptions,
    "choices": ChoiceProbabilities,
    "answer_check": AnswerCheck,
    "evidence": AnswerEvidence,
    "evidence_frame": EvidenceFrame,
    "calibration": Calibration,
    "bin": ReliabilityBin,
    "eval_settings": EvalSettings,
    "shard": RunShard,
    "bounds": Bounds,
    "pair": PairedComparison,
    "measurement": Measurement,
    "bench_options": BenchOptions,
    "file_result": FileResult,
    "picture_measurement": PictureMeasurement,
    "method_result": MethodResult,
    "metadata": VideoMetadata,
    "discontinuity": Discontinuity,
    "usage": Usage,
    "turn": Turn,
    "attachment": SavedAttachment,
    "video_source": VideoSource,
    "exam_options": ExamOptions,
    "finding": Finding,
    "hit": Hit,
    "difference": Difference,
}
"""Name among the ``$defs`` of schemas → the dataclass with its keys."""

ADDED = {
    "pair": ("difference", "detectable_difference", "questions_needed"),
    "file_result": ("times_floor",),
    "exam_options": ("smolvideo",),
}
"""Definition → keys in addition to the fields."""

OMIT_UNSET = (EvalAnswer,)
"""Records that omit keys whose value is None."""

UNITS = {"_seconds": "seconds", "_bytes": "bytes", "_fps": "frames per second"}


def names() -> list[str]:
    """Return the names of all schemas, which are their file names."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    content = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    assert isinstance(content, dict)
    return content


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(read(name))


def validate(name: str, content: Any) -> None:
    """Check a record written by the program; the error names the key and the page."""
    errors = [
        f"{error.json_path}: {error.message[:300]}"
        for error in _validator(name).iter_errors(content)
    ]
    assert not errors, f"not a record of smolvideo/schemas/{name}.json:\n" + "\n".join(errors)


def validate_line(name: str, line: str) -> dict[str, Any]:
    """Check one line of JSON and return its content."""
    content = json.loads(line)
    validate(name, content)
    return dict(content) if isinstance(content, dict) else {}


def generated(name: str) -> dict[str, Any]:
    """Return the schema with the types of its dataclasses, and all else as in its file."""
    schema = read(name)
    kind = RECORDS.get(name)
    if kind is not None:
        schema = _with_fields(schema, kind, ("record",) if hasattr(kind, "SCHEMA") else ())
        if hasattr(kind, "SCHEMA"):
            schema["properties"]["record"]["const"] = kind.SCHEMA
    for definition, content in schema.get("$defs", {}).items():
        if definition in DEFINITIONS:
            added = ADDED.get(definition, ())
            schema["$defs"][definition] = _with_fields(content, DEFINITIONS[definition], (), added)
    return schema


def _with_fields(
    schema: dict[str, Any], kind: type, before: tuple[str, ...], after: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return ``schema`` with the fields of ``kind`` as properties, between those written by
    hand.
    """
    hints = get_type_hints(kind, include_extras=True, localns=_late_names())
    old: dict[str, Any] = schema.get("properties", {})
    if name := _record_key(schema):
        before = (name,)
    properties = {key: old.get(key, {}) for key in before}
    required = [*before]
    for field in fields(kind):
        wanted = hints[field.name]
        if kind in OMIT_UNSET and type(None) in get_args(wanted):
            wanted = Union[tuple(one for one in get_args(wanted) if one is not type(None))]  # noqa: UP007
        else:
            required.append(field.name)
        properties[field.name] = _property(field.name, wanted, old.get(field.name, {}))
    for key in after:
        properties[key] = old.get(key, {})
        required.append(key)
    made = {"type": "object", "properties": properties, "required": required}
    kept = {key: value for key, value in schema.items() if key not in made}
    head = {key: kept.pop(key) for key in ("$schema", "title", "description") if key in kept}
    kept.pop("additionalProperties", None)
    return head | made | {"additionalProperties": False} | kept


def _record_key(schema: Mapping[str, Any]) -> str | None:
    first = next(iter(schema.get("properties", {"": None})))
    return first if first == "record" else None


def _late_names() -> dict[str, Any]:
    from smolvideo.frames import MediaKind

    return {"MediaKind": MediaKind}


def _property(name: str, wanted: Any, old: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of one key; description and contents of a mapping are kept."""
    made = _schema_of(wanted)
    if made.get("type") == "object" and ("$ref" in old or "anyOf" in old or "type" in old):
        made = {key: value for key, value in old.items() if key not in ("description", "unit")}
    notes = {"description": old.get("description", "")}
    unit = old.get("unit") or next(
        (unit for suffix, unit in UNITS.items() if name.endswith(suffix)), None
    )
    return made | notes | ({"unit": unit} if unit else {})


def _schema_of(wanted: Any) -> dict[str, Any]:
    """Return the JSON Schema of a field's type."""
    origin, inner = get_origin(wanted), get_args(wanted)
    simple = {str: "string", bool: "boolean", int: "integer", float: "number", Path: "string"}
    if wanted in simple:
        return {"type": simple[wanted]}
    if wanted is type(None):
        return {"type": "null"}
    if wanted is Any:
        return {}
    if wanted == SchemaArgument | None:
        return {"type": ["object", "null"]}
    if wanted is RelativeTime:
        return {"type": "string", "pattern": "^[0-9.e+-]+%$"}
    if is_dataclass(wanted):
        (name,) = (name for name, kind in DEFINITIONS.items() if kind is wanted)
        return {"$ref": f"#/$defs/{name}"}
    if origin is Annotated:
        bounds = next(one for one in inner[1:] if isinstance(one, Within))
        return _schema_of(inner[0]) | {"minimum": bounds.least, "maximum": bounds.most}
    if origin is Literal:
        return {"enum": [*inner]}
    if origin in (Union, types.UnionType):
        return _any_of([_schema_of(one) for one in inner])
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _schema_of(inner[0])}
    if origin is tuple:
        parts = [_schema_of(one) for one in inner]
        return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(inner[1])}
    raise TypeError(f"no JSON Schema for {wanted}")


def _any_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one of several schemas, with null in the short form."""
    null = {"type": "null"}
    others = [part for part in parts if part != null]
    if len(others) == len(parts) or len(others) > 1:
        return {"anyOf": parts}
    (part,) = others
    if "enum" in part:
        return {"enum": [*part["enum"], None]}
    return part | {"type": [part["type"], "null"]} if "type" in part else {"anyOf": parts}


def dump(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def objects(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object schema inside of ``schema``, with its path."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" or "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}[{number}]")


def tables() -> str:
    """Return the generated part of the page: a section per record, then shared definitions."""
    schemas = {name: read(name) for name in ORDER}
    used: dict[str, list[str]] = {}
    for name, schema in schemas.items():
        for definition in schema.get("$defs", {}):
            used.setdefault(definition, []).append(name)
    shared = [definition for definition, users in used.items() if len(users) > 1]
    parts = []
    for name, schema in schemas.items():
        parts += [f"## {schema['title']}", "", schema["description"], ""]
        parts += [f"Schema: [`{name}.json`](../smolvideo/schemas/{name}.json)", ""]
        parts += _tables_of(schema)
        for definition, content in schema.get("$defs", {}).items():
            if definition not in shared:
                parts += [f"### `{definition}` of {name}", "", content["description"], ""]
                parts += _tables_of(content)
    parts += ["## Shared parts", "", "Objects of the same form in several records.", ""]
    for definition in shared:
        content = schemas[used[definition][0]]["$defs"][definition]
        parts += [f"### `{definition}`", "", content["description"], ""]
        parts += _tables_of(content)
    return "\n".join(parts)


def _tables_of(schema: Mapping[str, Any]) -> list[str]:
    if schema.get("type") == "array":
        return ["An array; each element:", "", *_tables_of(schema["items"])]
    forms = schema.get("oneOf", [])
    if "properties" not in schema and forms:
        return [line for form in forms for line in _tables_of(form)]
    if "properties" not in schema:
        of = _type_in_words(schema["additionalProperties"])
        return [f"Any key, each with {of}.", ""]
    rows = ["| key | type | unit | meaning |", "|---|---|---|---|"]
    required = schema.get("required", [])
    for key, content in schema["properties"].items():
        words = _type_in_words(content) + ("" if key in required else ", may be missing")
        meaning = content["description"]
        rows.append(f"| `{key}` | {words} | {content.get('unit', '')} | {meaning} |")
    return [*rows, ""]


def _type_in_words(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`" if isinstance(schema["const"], str) else "`true`"
    if "enum" in schema:
        words = ["null" if one is None else f"`{one}`" for one in schema["enum"]]
        return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type_in_words, schema["anyOf"])))
    kinds = schema.get("type", "any JSON value")
    return " or ".join(
        _one_type(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds])
    )


def _one_type(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array" and "prefixItems" in schema:
        return "[" + ", ".join(map(_type_in_words, schema["prefixItems"])) + "]"
    if kind == "array":
        return f"array of {_type_in_words(schema['items'])}"
    if kind == "object" and schema.get("properties") == {}:
        return "empty object"
    if kind == "object":
        of = schema.get("additionalProperties")
        keys = schema.get("propertyNames", {}).get("enum")
        named = f", keys {', '.join(f'`{key}`' for key in keys)}" if keys else ""
        return f"object of {_type_in_words(of)}{named}" if of else "object"
    return kind


ORDER = [
    "answer", "calibration", "summary", "replay",
    "eval-run", "eval-item", "eval-answer", "eval-video", "eval-report", "eval-comparison",
    "eval-download", "exam-run", "exam-answer", "exam-report", "bench", "bench-frames",
    "bench-picture", "training", "training-curve", "conversation-log", "conversation", "frames",
    "models", "model", "find", "index", "cache",
    "cache-cleared", "doctor",
]  # fmt: skip
"""Order of the sections on the page."""
