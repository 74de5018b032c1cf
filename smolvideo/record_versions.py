"""Names in records and journals of earlier versions, and their names today."""

from collections.abc import Mapping
from typing import Any

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
