"""The engine ``openai``: our own server answers as this machine does; others may misbehave."""

import base64
import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.apiserver import CIRCLE, SAMPLES, running_server

import smolvideo
from smolvideo.cli.main import cli
from smolvideo.engines import (
    Engine,
    EngineSpec,
    GenerationOptions,
    RemoteEngine,
    load_engine,
)
from smolvideo.engines.openai_client import OpenAIClient, check_base_url
from smolvideo.engines.remote import remote_checkpoint
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.pipeline import load_frames, prepare
from smolvideo.prompt import Message
from smolvideo.sampling import FrameSampling
from smolvideo.serve.access import check_key
from smolvideo.serve.api_errors import ApiError
from smolvideo.serve.listen import VideoServer

# ---------------------------------------------------------------------- our own server


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server() as running:
        yield running


FEW = FrameSampling(max_frames=12)


@pytest.fixture(scope="module")
def here() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "red.png"
    Image.new("RGB", (96, 96), (200, 30, 30)).save(path)
    return path


def remote(server: VideoServer) -> RemoteEngine:
    engine = EngineSpec("auto", base_url=f"{server.url}/v1").load()
    assert isinstance(engine, RemoteEngine)
    return engine


@pytest.mark.parametrize(
    ("names", "question"),
    [
        (["circle_right.mp4"], "What moves?"),
        (["circle_right.mp4"], "Which way does the circle move?"),
        (["circle_right.mp4", "triangle_down.mp4"], "What moves?"),
        (["star_up_rotated.mp4"], "What moves?"),
        (["red.png"], "What is this?"),
        (["red.png", "circle_right.mp4"], "What moves?"),
    ],
)
def test_our_server_answers_as_this_machine_does(
    server: VideoServer, here: Engine, image: Path, names: list[str], question: str
) -> None:
    sources = [str(image if name == "red.png" else SAMPLES / name) for name in names]
    answers = []
    for engine in (here, remote(server)):
        prepared = prepare(engine.checkpoint, sources, question, sampling=FEW)
        answers.append(engine.stream(prepared.prompt, prepared.generation).result())
    assert answers[0].text == answers[1].text
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens
    assert answers[0].usage.frames == answers[1].usage.frames
    assert answers[0].stop_reason == answers[1].stop_reason


def test_options_and_history_reach_the_server(server: VideoServer, here: Engine) -> None:
    history = [Message("user", ("Hello?",)), Message("assistant", ("a star",))]
    generation = GenerationOptions(
        max_new_tokens=7, temperature=1.2, seed=5, repetition_penalty=1.3, stop=("zz",)
    )
    texts = []
    for engine in (here, remote(server)):
        prepared = prepare(
            engine.checkpoint,
            str(CIRCLE),
            "What moves?",
            sampling=FEW,
            history=history,
            generation=generation,
        )
        texts.append(engine.stream(prepared.prompt, prepared.generation).result().text)
    assert texts[0] == texts[1]


def test_answer_by_a_schema_comes_from_the_server(server: VideoServer) -> None:
    there = remote(server)
    generation = GenerationOptions(schema="colour red|purple, moves bool")
    prepared = prepare(there.checkpoint, str(CIRCLE), "What moves?", generation=generation)
    answer = there.stream(prepared.prompt, prepared.generation).result()
    assert json.loads(answer.text).keys() == {"colour", "moves"}


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = cli.main(list(words), standalone_mode=False)
    done = capsys.readouterr()
    return code, done.out, done.err


def test_ask_with_a_server_names_it_in_the_record(
    server: VideoServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("ask", "--server", server.url, "--json", "--quiet", str(CIRCLE), "What moves?")
    code, out, _ = run(*words, capsys=capsys)
    record = json.loads(out)
    assert (code, record["text"], record["model"]) == (0, "a purple circle", "nano")
    assert (record["engine"], record["device"]) == ("openai", f"{server.url}/v1")
    code, out, _ = run("ask", "--continue", "Which way?", capsys=capsys)
    assert code == 0, "the conversation knows its server"
    words = ("ask", "--continue", "--server", "http://127.0.0.1:9", "Which way?")
    code, _, err = run(*words, capsys=capsys)
    assert (code, "`--server` has no effect with `--continue`" in err) == (2, True)


FIVE = {"image_size": 64, "tokens_per_image": 16, "max_frames": 5}
TAKES_FIVE = {"data": [{"id": "nano", "max_model_len": 8192, "smolvideo": FIVE}]}


def test_frames_are_reduced_to_those_that_the_server_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    longer = str(SAMPLES / "three_shots.mp4")
    with OtherServer(lambda request, _: send(request, 200, GOOD), TAKES_FIVE) as server:
        ask = ("ask", "--server", server.url, "--json")
        code, out, err = run(*ask, longer, str(CIRCLE), "What?", capsys=capsys)
        assert code == 0, err
        assert images_of(server.bodies[-1]) == 5
        assert any(
            "5 of" in one and "the server of `nano` takes 5 images at most" in one
            for one in json.loads(out)["notices"]
        )
        code, out, err = run(*ask, "--max-frames", "5", longer, "What?", capsys=capsys)
        assert (code, json.loads(out)["notices"]) == (0, [])
        code, _, err = run(*ask, "--max-frames", "6", longer, "What?", capsys=capsys)
        assert code == 4
        assert "6 frames are too many: the server of `nano` takes 5 images at most" in err
        assert "`--max-frames 5` fits" in err
        assert len(server.bodies) == 2


def test_images_beyond_those_that_the_server_takes_are_not_sent(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OtherServer(lambda request, _: send(request, 200, GOOD), TAKES_FIVE) as server:
        words = ("ask", "--server", server.url, *[str(image)] * 6, "What?")
        code, _, err = run(*words, capsys=capsys)
        assert (code, server.bodies) == (4, [])
    assert "6 images are too many: the server of `nano` takes 5 images at most" in err
    assert "ask about fewer images" in err


def images_of(body: dict[str, Any]) -> int:
    """Return the number of images and frames in a request."""
    parts = [part for one in body["messages"] for part in one["content"] if isinstance(part, dict)]
    frames = [part["video_url"]["url"] for part in parts if part["type"] == "video_url"]
    return sum(map(len, frames)) + sum(part["type"] == "image_url" for part in parts)


def test_conversation_sends_no_more_images_than_the_server_takes(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OtherServer(lambda request, _: send(request, 200, GOOD), TAKES_FIVE) as server:
        run("ask", "--server", server.url, str(CIRCLE), "What?", capsys=capsys)
        code, _, err = run("ask", "--continue", str(image), "And this?", capsys=capsys)
        assert code == 0, err
        assert [images_of(body) for body in server.bodies] == [5, 1]
    assert "the frames of `circle_right.mp4` no longer fit the context" in err


def test_video_of_python_asks_a_server(server: VideoServer) -> None:
    with smolvideo.open(RemoteEngine.connect(server.url), str(CIRCLE), sampling=FEW) as video:
        assert video.ask("What moves?").text == "a purple circle"
        assert "".join(video.stream("Which way does the circle move?")) == "right"


def test_summarise_with_a_server(server: VideoServer, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("summarise", "--server", server.url, "--jsonl", "-", str(SAMPLES / "three_shots.mp4"))
    code, out, _ = run(*words, capsys=capsys)
    assert code == 0
    assert "red circle" in json.loads(out)["text"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--server", "127.0.0.1:8000"], 2, "is no address of a server"),
        (["--server", "ftp://x"], 2, "is no address of a server"),
        (["--server", ""], 2, "the address of the server is empty"),
        (["--server", "http://me:secret@127.0.0.1"], 2, "no user and no password"),
        (["--server", "http://127.0.0.1:9"], 4, "nothing answers at"),
        (["--server", "http://127.0.0.1:9", "--engine", "native"], 2, "contradict"),
        (["--server", "http://127.0.0.1:9", "--dtype", "float32"], 2, "on this machine"),
        (["--server", "http://127.0.0.1:9", "--dry-run"], 2, "about this machine"),
        (["--server", "http://example.org", "--offline"], 2, "uses no network"),
        (["--engine", "openai"], 2, "is a server"),
    ],
)
def test_server_that_cannot_be_used_is_one_line(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = run("ask", *words, str(CIRCLE), "What?", capsys=capsys)
    assert found == code
    assert message in err
    assert "secret" not in err


def test_engine_of_a_server_cannot_score(server: VideoServer) -> None:
    there = remote(server)
    prepared = prepare(there.checkpoint, str(CIRCLE), "What moves?")
    with pytest.raises(UsageError, match="likelihood") as raised:
        there.score(prepared.prompt, ["a", "b"])
    assert "leave `--server` out" in str(raised.value.hint)
    there.close()
    with pytest.raises(ModelError, match="closed"):
        there.stream(prepared.prompt)


# ---------------------------------------------------------------------- other servers

Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


class OtherServer:
    """A server of somebody else: ``reply`` answers its chats."""

    def __init__(
        self,
        reply: Reply,
        models: Any = None,
        get: Callable[[BaseHTTPRequestHandler], None] | None = None,
    ) -> None:
        outer = self
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        listed = {"data": [{"id": "big-vlm", "max_model_len": 4096}]} if models is None else models

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.keys.append(self.headers.get("authorization"))
                if get is not None:
                    get(self)
                    return
                send(self, 200, json.dumps(listed))

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                outer.bodies.append(json.loads(self.rfile.read(length)))
                outer.keys.append(self.headers.get("authorization"))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    reply(self, outer.bodies[-1])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "OtherServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def send(request: BaseHTTPRequestHandler, status: int, body: str, **headers: str) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.send_header("content-length", str(len(body.encode())))
    request.end_headers()
    request.wfile.write(body.encode())


def sse(*events: Any) -> str:
    lines = (one if isinstance(one, str) else f"data: {json.dumps(one)}" for one in events)
    return "".join(f"{line}\n\n" for line in lines)


def delta(text: str | None, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}


GOOD = sse(": keep-alive", delta(" a "), delta("dog"), delta(None, "stop"), "data: [DONE]")


ROTATED = str(SAMPLES / "star_up_rotated.mp4")
PAIR = FrameSampling(max_frames=2)


def answer_of(server: OtherServer) -> Any:
    checkpoint = remote_checkpoint(server.url)
    engine = RemoteEngine(checkpoint, server.url)
    engine._client._sleep = lambda _: None
    prepared = prepare(checkpoint, ROTATED, "What?", sampling=PAIR)
    return engine.stream(prepared.prompt, prepared.generation).result()


def test_other_servers_get_stamped_frames_in_their_own_aspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SMOLVIDEO_API_KEY", "s3cret")
    with OtherServer(lambda request, _: send(request, 200, GOOD)) as server:
        answer = answer_of(server)
        (body,) = server.bodies
    assert (answer.text, answer.stop_reason) == ("a dog", "end")
    assert set(server.keys) == {"Bearer s3cret"}
    content = body["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "Frame from 00:00:"}
    assert content[-1] == {"type": "text", "text": "What?"}
    image = content[1]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    width, height = Image.open(io.BytesIO(base64.b64decode(image))).size
    assert max(width, height) == 512
    metadata = load_frames(ROTATED, PAIR).metadata
    assert width / height == pytest.approx(metadata.width / metadata.height, rel=0.01)
    assert answer.usage.context_tokens == 4096


def test_busy_server_is_asked_again() -> None:
    replies = iter([(503, "busy"), (429, "busy"), (200, GOOD)])

    def reply(request: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        send(request, *next(replies), retry_after="1")

    with OtherServer(reply) as server:
        assert answer_of(server).text == "a dog"
        assert len(server.bodies) == 3


def test_answer_that_was_cut_says_so() -> None:
    cut = sse(delta("a dog and"), delta(None, "length"), "data: [DONE]")
    with OtherServer(lambda request, _: send(request, 200, cut)) as server:
        answer = answer_of(server)
    assert answer.stop_reason == "length"
    assert "cut after 1 tokens" in answer.notices[0]


ERROR = json.dumps({"error": {"message": "too many\x1b[31m images\u202e", "type": "x"}})


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (400, ERROR, PromptError, "too many images"),
        (413, "<html>", PromptError, "status 413"),
        (401, ERROR, ModelError, "too many images"),
        (500, "", ModelError, "status 500"),
        (503, "", ModelError, "status 503"),
        (302, "", ModelError, "status 302"),
        (404, '{"detail": "Not Found"}', ModelError, "Not Found"),
        (200, "<html>hello</html>", ModelError, "does not speak"),
        (200, "{}", ModelError, "does not speak"),
        (200, '{"choices": [{"text": "a dog"}]}', ModelError, "does not speak"),
        (200, ERROR, ModelError, "too many images"),
        (200, "data: {\n\n", ModelError, "does not speak"),
        (200, "data: [1]\n\n", ModelError, "does not speak"),
        (200, sse(delta("half")), ModelError, "broke the answer off"),
        (200, sse(delta("x"), json.loads(ERROR)), ModelError, "too many images"),
        (200, sse({"choices": 3}, {"choices": [None]}), ModelError, "broke the answer off"),
        (200, "data: " + "x" * (17 << 20), ModelError, "does not end"),
    ],
)
def test_server_that_misbehaves_is_an_error(
    status: int, body: str, error: type[Exception], message: str
) -> None:
    with (
        OtherServer(
            lambda request, _: send(request, status, body, location="http://127.0.0.1:9/x")
        ) as server,
        pytest.raises(error, match=message) as raised,
    ):
        answer_of(server)
    assert "\x1b" not in str(raised.value)
    assert "\u202e" not in str(raised.value)
    hint = getattr(raised.value, "hint", None)
    assert hint or "does not end" in message or "images" in message
    assert ("`--max-frames`" in (hint or "")) == (error is PromptError)


@pytest.mark.parametrize("indent", [None, 2])
def test_answer_of_a_server_that_does_not_stream(indent: int | None) -> None:
    message = {"role": "assistant", "content": " a purple circle"}
    whole = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 77, "completion_tokens": 5},
    }
    body = json.dumps(whole, indent=indent)
    with OtherServer(lambda request, _: send(request, 200, body)) as server:
        answer = answer_of(server)
    assert (answer.text, answer.stop_reason) == ("a purple circle", "length")
    assert (answer.usage.prompt_tokens, answer.usage.answer_tokens) == (77, 5)


def test_redirection_is_shown_without_credentials() -> None:
    def reply(request: BaseHTTPRequestHandler, _: dict[str, Any]) -> None:
        send(request, 307, "", location="http://me:s3cret@127.0.0.1:9/v2")

    with OtherServer(reply) as server, pytest.raises(ModelError, match="status 307") as raised:
        answer_of(server)
    assert raised.value.hint == "it sends elsewhere: `http://127.0.0.1:9/v2`; is that the address?"


@pytest.mark.parametrize(
    ("key", "message", "hint"),
    [
        (None, "a key is needed, as bearer token in `Authorization`\n", "key into SMOLVIDEO_API"),
        ("wrong", "the key is wrong\n", "does not accept the key in SMOLVIDEO_API_KEY"),
    ],
)
def test_missing_and_wrong_key_are_named(
    key: str | None,
    message: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("SMOLVIDEO_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("SMOLVIDEO_API_KEY", key)

    def refuse(given: str | None) -> tuple[int, str]:
        with pytest.raises(ApiError) as raised:
            check_key({} if given is None else {"authorization": given}, "the key")
        return raised.value.status, json.dumps(raised.value.to_json())

    def get(request: BaseHTTPRequestHandler) -> None:
        send(request, *refuse(request.headers.get("authorization")))

    with OtherServer(lambda *_: None, get=get) as server:
        code, _, err = run("ask", "--server", server.url, str(CIRCLE), "What?", capsys=capsys)
    assert code == 4
    assert message in err
    assert hint in err


@pytest.mark.parametrize("models", [[], {"data": 5}, "x", {"data": [{"id": 5}, None]}])
def test_list_of_models_that_is_none_is_an_error(models: Any) -> None:
    with (
        OtherServer(lambda *_: None, models) as server,
        pytest.raises(ModelError, match=r"does not speak|does not list"),
    ):
        remote_checkpoint(server.url)


def test_model_is_chosen_from_the_list() -> None:
    listed = {"data": [{"id": "a"}, {"id": "b", "smolvideo": {"image_size": "huge"}}]}
    with OtherServer(lambda *_: None, listed) as server:
        assert remote_checkpoint(server.url, "a").name == "a"
        assert remote_checkpoint(server.url, "b").image_size == 512
        with pytest.raises(ModelError, match="has no model `c`"):
            remote_checkpoint(server.url, "c")
        with pytest.raises(ModelError, match="has 2 models") as refused:
            remote_checkpoint(server.url)
        assert refused.value.hint == "`--model` can be `a`, `b`"
        assert [one.name for one in OpenAIClient(server.url).models()] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("https://x.org/api/v2/", "https://x.org/api/v2"),
        ("http://x.org:80/v1/chat/completions", "http://x.org:80/v1"),
        ("http://x.org/v1/models/", "http://x.org/v1"),
        ("http://models", "http://models/v1"),
        ("http://[::1]:80", "http://[::1]:80/v1"),
    ],
)
def test_address_of_a_server_gets_the_usual_path(given: str, url: str) -> None:
    assert check_base_url(given) == url


@pytest.mark.parametrize(
    "given", ["", "x", "http://", "http://[", "http://x:99999", "http://x?a=b"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        check_base_url(given)
