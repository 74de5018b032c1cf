"""Many clients, one engine: the queue, clients that go away, errors in the middle of an answer."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from support.apiserver import asked, frames_as_jpeg, running_server

from smolvideo.engines import frame_encoder
from smolvideo.engines.generate import GenerationState
from smolvideo.errors import ModelError
from smolvideo.models import open_checkpoint
from smolvideo.network import SmolVLM
from smolvideo.serve import ServerOptions
from smolvideo.serve.listen import VideoServer

LIMIT_SECONDS = 60
"""Catches a hang; no wait takes nearly as long."""


class Gate:
    """Holds the engine before the call number ``closed_at`` of a method until it is opened."""

    def __init__(self, closed_at: int) -> None:
        self.calls = 0
        self.reached = threading.Event()
        self._closed_at = closed_at
        self._open = threading.Event()

    def around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def held(*arguments: Any, **more: Any) -> Any:
            self.calls += 1
            if self.calls == self._closed_at:
                self.reached.set()
                assert self._open.wait(LIMIT_SECONDS)
            return method(*arguments, **more)

        return held

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Stop the engine before it encodes the third frame, one at a time."""
    gate = Gate(3)
    monkeypatch.setattr(frame_encoder, "_MAX_PATCHES_PER_CHUNK", {"cpu": 1})
    monkeypatch.setattr(SmolVLM, "encode_images", gate.around(SmolVLM.encode_images))
    yield gate
    gate.open()


@pytest.fixture(scope="module")
def frames() -> list[str]:
    return frames_as_jpeg()


def send(server: VideoServer, path: str = "/v1/chat/completions", **body: Any) -> socket.socket:
    """Send a request over a socket that the test can close at will."""
    content = json.dumps({"messages": asked("What moves?"), **body}).encode()
    connection = socket.create_connection(("127.0.0.1", server.port), LIMIT_SECONDS)
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    connection.sendall(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return connection


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does; the time limit only catches a hang."""
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def client_of(server: VideoServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def say(server: VideoServer, question: str = "What moves?") -> str:
    with client_of(server) as client:
        answer = client.chat.completions.create(model="nano", messages=asked(question))
    return answer.choices[0].message.content or ""


def cancelled(server: VideoServer) -> float:
    text = server.server.metrics.to_text(server.worker).decode()
    line = next(line for line in text.splitlines() if line.startswith("smolvideo_cancelled_total"))
    return float(line.rsplit(" ", 1)[1])


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_in_mid_encode_stops_the_work(encoding: Gate, stream: bool) -> None:
    with running_server() as server:
        connection = send(server, stream=stream)
        assert encoding.reached.wait(LIMIT_SECONDS)
        connection.close()
        wait_until(lambda: cancelled(server))
        encoding.open()
        wait_until(lambda: server.worker.num_admitted == 0)
        assert encoding.calls == 3, "of 50 frames"
        assert say(server) == "a purple circle"


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_leaves_in_mid_answer_stops_the_work(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    gate = Gate(2)
    monkeypatch.setattr(GenerationState, "append_token", gate.around(GenerationState.append_token))
    with running_server() as server:
        connection = send(server, stream=stream)
        assert gate.reached.wait(LIMIT_SECONDS)
        connection.close()
        wait_until(lambda: cancelled(server))
        gate.open()
        wait_until(lambda: server.worker.num_admitted == 0)
        assert gate.calls == 2, "of 4 tokens"


def test_full_queue_is_a_503_and_a_client_that_left_it_never_begins(encoding: Gate) -> None:
    with running_server(max_waiting=1) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(say, server)
        assert encoding.reached.wait(LIMIT_SECONDS)
        waiting = send(server)
        wait_until(lambda: server.worker.num_waiting == 1)
        with client_of(server) as client, pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="nano", messages=asked("What moves?"))
        assert refused.value.status_code == 503
        assert refused.value.code == "queue_full"
        assert int(refused.value.response.headers["retry-after"]) > 0
        waiting.close()
        wait_until(lambda: cancelled(server))
        encoding.open()
        assert first.result(LIMIT_SECONDS) == "a purple circle"
        wait_until(lambda: server.worker.num_admitted == 0)
        assert encoding.calls == 50, "frames of one request alone"


def test_stream_has_comments_while_frames_are_encoded() -> None:
    gate = Gate(1)
    with pytest.MonkeyPatch.context() as patch, running_server(keep_alive_seconds=0.02) as server:
        patch.setattr(SmolVLM, "encode_images", gate.around(SmolVLM.encode_images))
        connection = send(server, stream=True)
        received = b""
        while received.count(b": keep-alive\n\n") < 2:
            received += connection.recv(1000)
        gate.open()
        while b"data: [DONE]" not in received:
            received += connection.recv(1000)
        connection.close()
        assert received.startswith(b"HTTP/1.1 200")


def test_every_line_of_ollamas_stream_is_json_while_frames_are_encoded(
    encoding: Gate, frames: list[str]
) -> None:
    messages = [{"role": "user", "content": "What moves?", "images": frames}]
    with running_server(keep_alive_seconds=0.02) as server:
        connection = send(server, "/api/chat", messages=messages)
        received = b""
        while received.count(b'"content": ""') < 2:
            received += connection.recv(1000)
        encoding.open()
        while b'"done": true' not in received:
            received += connection.recv(1000)
        connection.close()
    lines = [line for line in received.decode().splitlines() if line.startswith("{")]
    assert "".join(json.loads(line)["message"]["content"] for line in lines) == "a purple circle"


@pytest.mark.parametrize("pause", [0.02, 60])
def test_error_has_a_status_before_the_first_byte_and_an_event_after_it(
    monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    gate = Gate(1)

    def fail(*_: Any) -> Any:
        raise ModelError("the device is gone")

    monkeypatch.setattr(SmolVLM, "encode_images", gate.around(fail))
    with running_server(keep_alive_seconds=pause) as server:
        connection = send(server, stream=True)
        assert gate.reached.wait(LIMIT_SECONDS)
        received = b""
        if pause < 1:
            while b": keep-alive" not in received:
                received += connection.recv(1000)
        gate.open()
        while b"the device is gone" not in received:
            received += connection.recv(1000)
        connection.close()
        if pause < 1:
            assert received.startswith(b"HTTP/1.1 200")
            assert b'data: {"error": {"message": "the device is gone"' in received
        else:
            assert received.startswith(b"HTTP/1.1 500")
        monkeypatch.undo()
        assert say(server) == "a purple circle", "the server outlives the failure"


def test_two_clients_at_once_get_their_own_answers() -> None:
    questions = ["What moves?", "Which way does the circle move?"] * 2
    with running_server() as server, ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(lambda question: say(server, question), questions))
    assert texts == ["a purple circle", "right"] * 2


def test_requests_get_a_503_until_the_model_is_loaded() -> None:
    loading, loaded = threading.Event(), threading.Event()

    def load(_: Any) -> Any:
        loading.set()
        assert loaded.wait(LIMIT_SECONDS)
        raise ModelError("the weights are broken")

    server = VideoServer(ServerOptions(port=0), open_checkpoint("nano"), load)
    failure: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except ModelError as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert loading.wait(LIMIT_SECONDS)
        wait_until(lambda: server.is_listening)
        with client_of(server) as client, pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="nano", messages=asked("What moves?"))
        assert (refused.value.status_code, refused.value.code) == (503, "model_loading")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT_SECONDS)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 503
        connection.close()
    finally:
        loaded.set()
        thread.join(LIMIT_SECONDS)
    assert [str(error) for error in failure] == ["the weights are broken"]
