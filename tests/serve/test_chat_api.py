"""The real ``openai`` client against a real server with nano."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from support.apiserver import CIRCLE, SAMPLES, asked, running_server, video_part

from smolvideo.engines import Engine, frame_encoder, load_engine
from smolvideo.serve.listen import VideoServer

KEY = "a key with ümlaut"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return load_engine("nano", device="cpu")


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server() as running:
        yield running


@pytest.fixture
def client(server: VideoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def complete(client: openai.OpenAI, question: str, *parts: dict[str, Any], **more: Any) -> Any:
    return client.chat.completions.create(model="nano", messages=asked(question, *parts), **more)


def test_answer_has_text_usage_frame_times_and_finish_reason(client: openai.OpenAI) -> None:
    answer = complete(client, "What moves?")
    assert answer.object == "chat.completion"
    assert answer.model == "nano"
    (choice,) = answer.choices
    assert (choice.message.content, choice.finish_reason) == ("a purple circle", "stop")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.image_tokens == 50 * 4
    ours = answer.model_extra["smolvideo"]
    times = [frame["seconds"] for frame in ours["frames"]]
    assert len(times) == 50
    assert times == sorted(times)
    assert {"decode", "encode", "prefill", "generate"} <= ours["seconds"].keys()


def test_second_question_about_a_video_takes_its_frames_from_the_session(
    client: openai.OpenAI,
) -> None:
    complete(client, "What moves?")
    answer = complete(client, "Which way does the circle move?")
    assert answer.choices[0].message.content == "right"
    details = answer.usage.prompt_tokens_details
    assert details.cached_tokens > details.image_tokens == 200
    assert answer.model_extra["smolvideo"]["frames_from_cache"] == 50


def test_stream_has_the_pieces_of_the_whole_answer(client: openai.OpenAI) -> None:
    whole = complete(client, "What moves?")
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(complete(client, "What moves?", **options))
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == whole.choices[0].message.content
    assert len([delta for delta in deltas if delta]) > 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons == [None] * (len(reasons) - 1) + ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_those_of_the_tokens(client: openai.OpenAI, stream: bool) -> None:
    answer = complete(client, "What moves?", logprobs=True, top_logprobs=2, stream=stream)
    found = [chunk.choices[0] for chunk in (answer if stream else [answer]) if chunk.choices]
    tokens = [token for choice in found for token in choice.logprobs.content]
    assert b"".join(bytes(token.bytes) for token in tokens).decode().strip() == "a purple circle"
    for token in tokens:
        assert token.logprob == max(one.logprob for one in token.top_logprobs) <= 0
        assert sum(math.exp(one.logprob) for one in token.top_logprobs) <= 1 + 1e-6


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_answer_is_cut_at_the_limit(client: openai.OpenAI, name: str) -> None:
    answer = complete(client, "What moves?", **{name: 2})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 2
    (notice,) = answer.smolvideo["notices"]
    assert "`max_tokens` allows more" in notice
    assert complete(client, "What moves?", **{name: 100_000}).choices[0].finish_reason == "stop"


def test_stop_string_ends_the_answer(client: openai.OpenAI) -> None:
    for stop in (" circle", [" circle", "x"]):
        assert complete(client, "What moves?", stop=stop).choices[0].message.content == "a purple"


def test_same_seed_gives_the_same_answer(client: openai.OpenAI) -> None:
    options = {"temperature": 1.5, "seed": -7}
    texts = [complete(client, "What is this?", **options).choices[0].message for _ in range(2)]
    assert texts[0].content == texts[1].content


def test_conversation_with_history_and_system_message(client: openai.OpenAI) -> None:
    messages = [
        *asked("What moves?"),
        {"role": "assistant", "content": "a purple circle"},
        {"role": "user", "content": "Which way does the circle move?"},
    ]
    first = client.chat.completions.create(model="nano", messages=messages)
    assert first.usage.prompt_tokens_details.image_tokens == 200
    with_system = [{"role": "system", "content": "Be brief."}, *messages]
    second = client.chat.completions.create(model="nano", messages=with_system)
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


def test_question_without_media_is_answered(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What moves?"}]
    answer = client.chat.completions.create(model="nano", messages=messages)
    assert answer.usage.prompt_tokens_details.image_tokens == 0


def test_video_object_of_a_request_chooses_the_frames(client: openai.OpenAI) -> None:
    video = {"start": "0:01", "end": 2.5, "max_frames": 5}
    for extra in ({"video": video}, {"messages": asked("?", {**video_part(), "video": video})}):
        body = {"messages": asked("What moves?"), **extra}
        more = {name: body.pop(name) for name in ("video",) if name in body}
        answer = client.chat.completions.create(model="nano", extra_body=more, **body)
        times = [frame["seconds"] for frame in answer.model_extra["smolvideo"]["frames"]]
        assert len(times) == 5
        assert 1 <= times[0] < times[-1] <= 2.5


@pytest.mark.parametrize(
    "extra",
    [
        {"media_io_kwargs": {"video": {"num_frames": 4}}},
        {"mm_processor_kwargs": {"num_frames": 4, "do_sample_frames": True}},
    ],
)
def test_frames_are_chosen_by_the_names_of_vllm(
    client: openai.OpenAI, extra: dict[str, Any]
) -> None:
    answer = complete(client, "What moves?", extra_body=extra)
    assert len(answer.model_extra["smolvideo"]["frames"]) == 4


@pytest.mark.parametrize("asked_for", [-1, 100_000])
def test_request_never_raises_the_number_of_frames(client: openai.OpenAI, asked_for: int) -> None:
    extra = {"media_io_kwargs": {"video": {"num_frames": asked_for}}}
    answer = complete(client, "What moves?", extra_body=extra)
    assert len(answer.model_extra["smolvideo"]["frames"]) == 50


def test_hundred_questions_about_one_video_encode_it_once(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = frame_encoder.FrameEncoder.encode

    def counted(self: Any, images: Any, **more: Any) -> Any:
        encoded.append(len(images))
        return encode(self, images, **more)

    monkeypatch.setattr(frame_encoder.FrameEncoder, "encode", counted)
    with running_server(max_waiting=100) as server, ThreadPoolExecutor(8) as pool:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        questions = ["What moves?", "Which way does the circle move?"] * 50
        answers = list(
            pool.map(lambda question: complete(client, question, max_tokens=3), questions)
        )
    assert encoded == [50]
    assert {answer.choices[0].message.content for answer in answers} == {"a purple circle", "right"}


def test_two_videos_under_one_name_are_two_videos(client: openai.OpenAI) -> None:
    other = SAMPLES / "triangle_down.mp4"
    texts = [
        complete(client, "What moves?", {**video_part(path), "filename": "video.mp4"})
        .choices[0]
        .message.content
        for path in (CIRCLE, other, CIRCLE)
    ]
    assert texts == ["a purple circle", "an orange triangle", "a purple circle"]


def test_model_list_says_the_context(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == "nano"
    assert model.model_extra["max_model_len"] == 2048
    assert client.models.retrieve("nano").id == "nano"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other/model")


def test_health_and_metrics(server: VideoServer, client: openai.OpenAI) -> None:
    complete(client, "What moves?")
    http = client.with_options(base_url=server.url)
    assert http.get("/health", cast_to=dict)["status"] == "ok"
    text = http.get("/metrics", cast_to=str)
    counted = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(counted["smolvideo_answer_tokens_total"]) >= 4
    assert float(counted["smolvideo_ready"]) == 1
    path = 'path="/v1/chat/completions",status="200"'
    assert float(counted[f"smolvideo_requests_total{{{path}}}"]) >= 1
