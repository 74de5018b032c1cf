"""Records and journals of schema version 1 are read with the names of version 2."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from smolvideo.cli.main import cli
from smolvideo.conversation.event_log import _turn_from_json
from smolvideo.conversation.turns import Settings, settings_from_json, settings_to_json
from smolvideo.json_types import upgrade_record
from smolvideo.models import open_checkpoint
from smolvideo.records import AnswerRecord
from smolvideo.summaries import SummaryOptions, SummaryRecord
from smolvideo.summaries.options import settings_hash

SOURCE = {"given": "a.mp4", "name": "a.mp4", "kind": "video"}
SECONDS = {"load": 1.0, "encode": 0.5, "read": 0.25, "answer": 2.0}
TODAY = {"load": 1.0, "encode": 0.5, "prefill": 0.25, "generate": 2.0}


def test_answer_of_version_1_is_upgraded() -> None:
    line = {"record": "smolvideo.answer/1", "question": "Who?", "sources": [SOURCE], "text": "Tom"}
    record = AnswerRecord.from_json(json.dumps(line | {"quantise": "int8", "seconds": SECONDS}))
    assert (record.quantize, record.seconds) == ("int8", TODAY)
    written = json.loads(record.to_json())
    assert (written["record"], written["quantize"]) == ("smolvideo.answer/2", "int8")
    assert AnswerRecord.from_json(record.to_json()) == record


def test_summary_of_version_1_is_upgraded() -> None:
    line: dict[str, Any] = {"record": "smolvideo.summary/1", "path": "a.mp4", "style": "summary"}
    line["source"] = SOURCE
    line |= {
        "text": "Tom",
        "quantise": "int4",
        "seconds": SECONDS,
        "settings": {"quantise": "int4"},
    }
    record = SummaryRecord.from_json(json.dumps(line))
    assert (record.quantize, record.settings) == ("int4", {"quantize": "int4"})
    assert record.seconds == TODAY


def test_names_of_version_2_are_unchanged() -> None:
    content = {"record": "smolvideo.answer/2", "seconds": {"read": 1.0}, "quantise": "x"}
    assert upgrade_record(content) == content


@pytest.mark.parametrize("seconds", [None, 3, [1.0]])
def test_upgrade_leaves_non_mappings_to_the_type_check(seconds: object) -> None:
    content = {"record": "smolvideo.answer/1", "seconds": seconds}
    assert upgrade_record(content) == content


def test_settings_key_of_quantized_summaries_is_that_of_version_1() -> None:
    """Version 1 spelled the name ``quantise``; finished summaries must stay valid."""
    settings = SummaryOptions().settings(open_checkpoint("nano"), "int8")
    assert settings["quantize"] == "int8"
    assert settings_hash(settings) == settings_hash(
        {"quantise" if name == "quantize" else name: value for name, value in settings.items()}
    )


def test_conversation_settings_of_version_1_are_upgraded() -> None:
    written = settings_to_json(Settings(model="nano", quantize="int8"))
    written["quantise"] = written.pop("quantize")
    assert settings_from_json(written).quantize == "int8"
    usage = {"prompt_tokens": 9, "answer_tokens": 1, "context_tokens": 64, "seconds": SECONDS}
    turn = _turn_from_json({"question": "Who?", "text": "Tom", "usage": usage})
    assert turn.usage is not None
    assert turn.usage.seconds == TODAY


@pytest.mark.parametrize("flag", ["--quantize", "--quantise"])
def test_both_spellings_of_the_quantize_flag(flag: str) -> None:
    done = CliRunner().invoke(cli, ["ask", "none.mp4", "Who?", flag, "int3"])
    assert done.exit_code == 2
    assert "int3" in done.output
    assert "no such option" not in done.output.lower()
