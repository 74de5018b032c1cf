"""Ollama's interface, by the requests that its clients send."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.apiserver import frames_as_jpeg, running_server

from smolvideo.serve.listen import VideoServer


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def frames() -> list[str]:
    return frames_as_jpeg()


def call(server: VideoServer, path: str, body: Any = None) -> tuple[int, list[dict[str, Any]]]:
    """Return the status, and the JSON of each line."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    content = None if body is None else json.dumps(body)
    headers = {"content-type": "application/json"}
    connection.request("GET" if body is None else "POST", path, content, headers)
    response = connection.getresponse()
    lines = response.read().splitlines()
    connection.close()
    return response.status, [json.loads(line) for line in lines]


def chat(frames: list[str], **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": "Which way does the circle move?", "images": frames}
    return {"model": "nano:latest", "messages": [message], **more}


def test_images_of_a_chat_are_one_video(server: VideoServer, frames: list[str]) -> None:
    status, (answer,) = call(server, "/api/chat", chat(frames, stream=False))
    assert status == 200
    assert answer["message"] == {"role": "assistant", "content": "right"}
    assert (answer["done"], answer["done_reason"]) == (True, "stop")
    assert answer["eval_count"] == 2
    assert answer["prompt_eval_count"] > 8 * 4
    assert answer["total_duration"] > 0
    _, (back,) = call(server, "/api/chat", chat(frames[::-1], stream=False))
    assert back["message"]["content"] == "left"


def test_chat_streams_unless_it_says_no(server: VideoServer, frames: list[str]) -> None:
    status, lines = call(server, "/api/chat", chat(frames))
    assert status == 200
    assert "".join(line["message"]["content"] for line in lines) == "right"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


def test_generate_is_a_chat_of_one_question(server: VideoServer, frames: list[str]) -> None:
    body = {"model": "nano", "prompt": "What moves?", "images": frames, "stream": False}
    _, (answer,) = call(server, "/api/generate", body)
    assert answer["response"] == "a purple circle"
    _, (with_system,) = call(server, "/api/generate", {**body, "system": "Be brief."})
    assert with_system["prompt_eval_count"] > answer["prompt_eval_count"]


def test_options_and_format_have_ollamas_names(server: VideoServer, frames: list[str]) -> None:
    options = {"num_predict": 1, "temperature": 0, "num_ctx": 4096, "repeat_penalty": 1.0}
    _, (cut,) = call(server, "/api/chat", chat(frames, stream=False, options=options))
    assert (cut["eval_count"], cut["done_reason"]) == (1, "length")
    _, (free,) = call(server, "/api/chat", chat(frames, stream=False, options={"num_predict": -1}))
    assert free["done_reason"] == "stop"
    schema = {"type": "object", "properties": {"way": {"enum": ["left", "right"]}}}
    schema["required"] = ["way"]  # type: ignore[assignment]
    _, (typed,) = call(server, "/api/chat", chat(frames, stream=False, format=schema))
    assert json.loads(typed["message"]["content"])["way"] in ("left", "right")


def test_clients_find_the_model_and_that_it_sees(server: VideoServer) -> None:
    for path in ("/api/tags", "/api/ps"):
        _, (listed,) = call(server, path)
        assert [model["name"] for model in listed["models"]] == ["nano"]
    for name in ("model", "name"):
        _, (shown,) = call(server, "/api/show", {name: "nano:latest"})
        assert "vision" in shown["capabilities"]
    assert call(server, "/api/version")[0] == 200
    assert call(server, "/api/show", {"model": "llava"})[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"model": "llava", "messages": []},
        {"messages": 3},
        {"messages": ["hello"]},
        {"messages": [{"role": "user", "content": "?", "images": "x"}]},
        {"messages": [{"role": "user", "content": "?", "images": ["not base64!"]}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "?"}], "options": 3},
        {"messages": [{"role": "user", "content": "?"}], "format": "xml"},
        {"messages": [{"role": "user", "content": "?"}], "tools": [{"type": "function"}]},
        {"prompt": 3},
    ],
)
def test_what_is_not_understood_is_an_error(server: VideoServer, body: dict[str, Any]) -> None:
    for more in ({"stream": False}, {}):
        status, (answer,) = call(server, "/api/chat", {**body, **more})
        assert status in (400, 404)
        assert isinstance(answer["error"], str), "in Ollama's own shape"
