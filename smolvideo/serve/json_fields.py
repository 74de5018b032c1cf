"""Fields of a JSON request: their values checked, with the path of the field in each error."""

import math
from collections.abc import Mapping
from typing import Any

from smolvideo.serve.api_errors import invalid


def read_boolean(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(f"`{name}` must be true or false", param=name)
    return value


def read_integer(
    given: Mapping[str, Any], name: str, least: int, most: int, param: str = ""
) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(
            f"`{name}` must be a whole number from {least} to {most}", param=_path(param, name)
        )
    return value


def read_number(
    given: Mapping[str, Any], name: str, least: float, most: float, param: str = ""
) -> float | None:
    value = given.get(name)
    return None if value is None else checked_number(value, _path(param, name), least, most)


def checked_number(value: Any, param: str, least: float, most: float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not least <= value <= most:
        raise invalid(f"a number from {least:g} to {most:g} is needed", param=param)
    return float(value)


def _path(param: str, name: str) -> str:
    return f"{param}.{name}" if param else name


def read_positive(given: Mapping[str, Any], name: str, param: str) -> float | None:
    number = read_number(given, name, 0, 1e6, param)
    if number is not None and number <= 0:
        raise invalid(f"`{name}` must be above 0", param=_path(param, name))
    return number
