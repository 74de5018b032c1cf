"""Answers by a schema, and decisions, over HTTP with the real client."""

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel
from support.apiserver import asked, running_server, video_part

from smolvideo.engines import IncompleteAnswerError
from smolvideo.serve import ollama
from smolvideo.serve.api_errors import to_api_error
from smolvideo.serve.chat_request import parse_response_format
from smolvideo.serve.listen import VideoServer
from smolvideo.serve.remote_media import too_large


class Seen(BaseModel):
    colour: Literal["purple", "orange", "green"]
    shape: Literal["circle", "square"]
    count: int


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server(max_body_bytes=2_000_000) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: VideoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def by_schema(client: openai.OpenAI, schema: Any, **more: Any) -> str:
    answer_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = client.chat.completions.create(
        model="nano",
        messages=asked("What moves?"),
        response_format=answer_format,  # type: ignore[arg-type]
        **more,
    )
    return answer.choices[0].message.content or ""


def test_parse_returns_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="nano", messages=asked("What moves?"), response_format=Seen
    )
    assert isinstance(answer.choices[0].message.parsed, Seen)


def test_streamed_json_is_that_of_the_whole_answer(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"type": "boolean"}}}
    schema["required"] = ["a", "b"]
    whole = by_schema(client, schema)
    jsonschema.validate(json.loads(whole), schema)
    answer_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    stream = client.chat.completions.create(
        model="nano",
        messages=asked("What moves?"),
        response_format=answer_format,  # type: ignore[arg-type]
        stream=True,
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole


def test_json_object_is_a_schema_of_any_object(client: openai.OpenAI) -> None:
    assert parse_response_format({"type": "json_object"}) == {"type": "object"}
    stream = client.chat.completions.create(
        model="nano",
        messages=asked("What moves?"),
        response_format={"type": "json_object"},
        max_tokens=10,
        stream=True,
    )
    written: list[str] = []
    with pytest.raises(openai.APIError, match="JSON of the answer is incomplete"):
        written.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "".join(written).startswith("{")


def test_schema_that_is_not_supported_is_a_422_with_the_keyword(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="uniqueItems") as refused:
        by_schema(client, {"type": "array", "uniqueItems": True})
    assert (refused.value.code, refused.value.param) == ("unsupported_schema", "response_format")


def test_half_a_document_is_an_error(client: openai.OpenAI) -> None:
    schema = {"type": "array", "items": {"enum": ["purple", "circle"]}, "minItems": 20}
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        by_schema(client, schema, max_tokens=5)
    assert refused.value.code == "incomplete_answer"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(a+)+$"},
        {"type": "string", "pattern": "^((a{1,50}){1,50}){1,50}$"},
        {"type": "array", "minItems": 5000, "items": {"type": "string"}},
        {"type": "string", "minLength": 500_000},
        {"$ref": "#"},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"type": "object", "properties": {"x" * 70_000: {"type": "null"}}},
        {"type": "string", "pattern": "(?=x)y"},
        {"$ref": "http://127.0.0.1/schema.json"},
        {"$ref": "file:///etc/passwd"},
    ],
)
def test_schema_bombs_are_refused_or_end(client: openai.OpenAI, schema: Any) -> None:
    with suppress(openai.BadRequestError, openai.UnprocessableEntityError):
        json.loads(by_schema(client, schema, max_tokens=20))
    assert client.models.list().data, "the server goes on"


@pytest.mark.parametrize("inner", [None, {}, {"name": "x"}, {"schema": "x"}, {"schema": []}])
def test_response_format_without_a_schema_is_an_error(client: openai.OpenAI, inner: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="nano",
            messages=asked("?"),
            response_format={"type": "json_schema", "json_schema": inner},
        )


def decide(client: openai.OpenAI, **questions: Any) -> Any:
    body = {"content": [video_part()], "questions": questions}
    return client.post("/video/decisions", body=body, cast_to=dict)["decisions"]


def test_decisions_have_the_probability_of_each_choice(client: openai.OpenAI) -> None:
    found = decide(
        client,
        moves={"type": "bool", "instructions": "Does anything move?"},
        way={
            "type": "choice",
            "instructions": "Which way does the circle move?",
            "choices": ["left", "right", "up"],
        },
        how_many={"type": "score", "instructions": "How many circles are there?", "max": 3},
    )
    assert found["moves"]["value"] is True
    assert found["way"]["value"] == "right"
    assert 1 <= found["how_many"]["value"] <= 3
    for one in found.values():
        assert math.isclose(sum(one["probabilities"].values()), 1, abs_tol=1e-4)
        assert not one["calibrated"]
    assert list(found["how_many"]["probabilities"]) == ["1", "2", "3"]


@pytest.mark.parametrize(
    "question",
    [
        "What?",
        {},
        {"instructions": " "},
        {"instructions": "x", "type": "multi_label"},
        {"instructions": "x", "type": "choice"},
        {"instructions": "x", "type": "choice", "choices": ["a"]},
        {"instructions": "x", "type": "choice", "choices": ["a", "A"]},
        {"instructions": "x", "type": "choice", "choices": [1, 2]},
        {"instructions": "x", "type": "score", "min": 5, "max": 2},
        {"instructions": "x", "type": "score", "max": 1.5},
    ],
)
def test_question_that_is_not_understood_is_an_error(client: openai.OpenAI, question: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        decide(client, name=question)
    assert str(refused.value.param).startswith("questions.name")


def test_frames_are_those_that_the_model_gets(client: openai.OpenAI) -> None:
    body = {"content": [video_part()], "video": {"max_frames": 3}}
    found = client.post("/video/frames", body=body, cast_to=dict)
    assert [one["seconds"] for one in found["data"]] == [0, 2.933, 5.933]
    assert all(one["image"].startswith("data:image/jpeg;base64,/9j/") for one in found["data"])
    assert 0 < found["prompt_tokens"] < found["context_tokens"]
    with pytest.raises(openai.BadRequestError):
        client.post("/video/frames", body={"content": []}, cast_to=dict)


def test_fault_in_a_part_has_its_path_in_the_request(client: openai.OpenAI) -> None:
    broken = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,####"}}
    asks = {"name": {"instructions": "What?"}}
    for path, content, param in (
        ("/video/frames", [broken], "content[0].video_url"),
        ("/video/decisions", [broken], "content[0].video_url"),
        ("/video/frames", [video_part(), {"type": "x"}], "content[1].type"),
        ("/video/frames", [{"type": "text", "text": "t"}, broken], "content[1].video_url"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.post(path, body={"content": content, "questions": asks}, cast_to=dict)
        assert refused.value.param == param


def test_damaged_file_of_the_server_is_no_fault_of_the_request(
    client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "calibrations.json"
    file.write_text("[")
    monkeypatch.setattr("smolvideo.calibration.store.calibrations_file", lambda: file)
    with pytest.raises(openai.InternalServerError) as refused:
        decide(client, name={"instructions": "What?"})
    assert (refused.value.status_code, refused.value.code) == (500, "internal_error")
    assert str(tmp_path) not in str(refused.value)


def test_hint_names_the_field_of_the_interface() -> None:
    error = IncompleteAnswerError("cut", hint="`--max-new-tokens` allows more, or `--max-frames 3`")
    shown = to_api_error(error)
    assert shown.message == "cut (`max_tokens` allows more, or `max_frames 3`)"
    assert json.loads(bytes(ollama._failure_response(shown).body)) == {
        "error": "cut (`num_predict` allows more, or `max_frames 3`)"
    }


@pytest.mark.parametrize(("limit", "shown"), [(300_000, "300 kB"), (64_000_000, "64.0 MB")])
def test_limit_of_a_body_has_its_unit(limit: int, shown: str) -> None:
    assert too_large(limit, None).message.endswith(f"limit of {shown}")
