"""Validation of parsed JSON by the types of a dataclass, and names of earlier record versions.

Records are read from files that anyone may have changed: what does not conform is refused on
reading, so that later code never meets a value of the wrong type.
"""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MAX_DIGITS = 300
"""Maximum digits of an integer; no float holds more, and no value of ours is nearly as long."""
_DIGITS_OF_64_BITS = 18
"""Digits that always fit into 64 bits."""
_MAX_SECONDS = 1e9
"""Maximum seconds of a video, or of work on it: 32 years."""


@dataclass(frozen=True)
class Within:
    """Inclusive bounds of a number."""

    least: float
    most: float

    def hold(self, value: Any) -> bool:
        return value is None or bool(self.least <= value <= self.most)


Count = Annotated[int, Within(0, 2**63 - 1)]
"""A non-negative integer of 64 bits."""
Seconds = Annotated[float, Within(0, _MAX_SECONDS)]
"""A duration, or a time from the start of a video."""
Moment = Annotated[float, Within(-_MAX_SECONDS, _MAX_SECONDS)]
"""A presentation time, which may be negative in some files."""


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Any:
    """Parse JSON.

    Raises ValueError for invalid JSON, for nesting beyond Python's recursion limit, and for
    integers longer than ``MAX_DIGITS``; with ``unique_keys`` also for duplicate keys, of which the
    last would win.
    """
    return _parsed(
        text,
        parse_int=partial(_whole_number, MAX_DIGITS),
        object_pairs_hook=_without_duplicates if unique_keys else None,
    )


def parse_strict_json(text: str | bytes) -> Any:
    """Parse JSON strictly: ValueError also for what RFC 8259 forbids (NaN), for duplicate keys, and
    for numbers beyond 64 bits."""
    return _parsed(
        text,
        parse_int=partial(_whole_number, _DIGITS_OF_64_BITS),
        parse_float=_finite_number,
        parse_constant=_no_number,
        object_pairs_hook=_without_duplicates,
    )


def _parsed(text: str | bytes, **how: Any) -> Any:
    try:
        return json.loads(text, **how)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _whole_number(max_digits: int, digits: str) -> int:
    if len(digits.lstrip("-")) > max_digits:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite_number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond 64 bits")
    return number


def _no_number(name: str) -> float:
    raise ValueError(f"`{name}` is no number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {key[:60]!r}")
    return content


def check_types(kind: Any, content: Mapping[str, Any]) -> None:
    """Check that ``content`` can be the fields of the dataclass ``kind``; missing keys need
    defaults.

    Raises ValueError, naming the first invalid field.
    """
    for name, (wanted, is_required) in _declared(kind).items():
        if name not in content:
            if is_required:
                raise ValueError(f"incomplete: `{name}` is missing")
        elif not conforms(content[name], wanted):
            is_number = isinstance(content[name], int | float)
            why = f"cannot be {content[name]!r:.40}" if is_number else "is of another type"
            raise ValueError(f"`{name}` {why}")


def conforms(value: Any, wanted: Any) -> bool:
    """Return whether a JSON value has the type ``wanted``; lists count as tuples, NaN as
    invalid."""
    if wanted is Any or wanted is None or wanted is types.NoneType:
        return wanted is Any or value is None
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        return conforms(value, inner[0]) and all(bounds.hold(value) for bounds in inner[1:])
    if origin in (Union, types.UnionType):
        return any(conforms(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, list | tuple) and _conform_all(value, inner)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict) and all(
            conforms(key, inner[0]) and conforms(one, inner[1]) for key, one in value.items()
        )
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if is_dataclass(wanted):
        return isinstance(value, dict) and _has_types(wanted, value)
    return isinstance(value, wanted)


def _conform_all(values: Any, inner: tuple[Any, ...]) -> bool:
    if len(inner) == 2 and inner[1] is Ellipsis:
        return all(conforms(value, inner[0]) for value in values)
    return len(values) == len(inner) and all(map(conforms, values, inner))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _has_types(kind: Any, content: Mapping[str, Any]) -> bool:
    try:
        check_types(kind, content)
    except ValueError:
        return False
    return True


@cache
def _declared(kind: Any) -> dict[str, tuple[Any, bool]]:
    """Return the type of each field, and whether it is required."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name: (
            hints[field.name],
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    }


_STAGES = {"read": "prefill", "answer": "generate"}
"""Stages of ``seconds`` until version 1 of the records of answers and summaries."""


def upgrade_record(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a record of version 1 with the names of version 2; others as they are."""
    if not str(content.get("record")).endswith("/1"):
        return dict(content)
    upgraded = upgrade_engine(content)
    if isinstance(upgraded.get("settings"), dict):
        upgraded["settings"] = upgrade_engine(upgraded["settings"])
    if "seconds" in upgraded:
        upgraded["seconds"] = upgrade_seconds(upgraded["seconds"])
    return upgraded


def upgrade_engine(content: Mapping[str, Any]) -> dict[str, Any]:
    """How an engine was loaded, with ``quantize`` where it was ``quantise``, in the same order."""
    return {"quantize" if name == "quantise" else name: value for name, value in content.items()}


def upgrade_seconds(seconds: Any) -> Any:
    """Seconds by stage with the stages' names of today; what is no mapping as it is."""
    if not isinstance(seconds, Mapping):
        return seconds
    return {_STAGES.get(stage, stage): value for stage, value in seconds.items()}
