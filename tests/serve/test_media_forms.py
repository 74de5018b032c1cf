"""Every form in which clients send media, and refusals of all that is not understood."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.apiserver import (
    CIRCLE,
    SAMPLES,
    asked,
    data_uri,
    frames_as_jpeg,
    running_server,
    video_part,
)

from smolvideo.serve.listen import VideoServer

RAW = base64.b64encode(CIRCLE.read_bytes()).decode()
URI = data_uri(CIRCLE)


@pytest.fixture(scope="module")
def server() -> Iterator[VideoServer]:
    with running_server(allowed_folders=(SAMPLES,)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: VideoServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def frames() -> list[str]:
    return frames_as_jpeg()


def text_of(client: openai.OpenAI, content: list[Any], **more: Any) -> str:
    answer = client.chat.completions.create(
        model="nano", messages=[{"role": "user", "content": content}], extra_body=more
    )
    return answer.choices[0].message.content or ""


WHAT = {"type": "text", "text": "What moves?"}

VIDEO_FORMS: dict[str, dict[str, Any]] = {
    "vllm": {"type": "video_url", "video_url": {"url": URI}},
    "bare string": {"type": "video_url", "video_url": URI},
    "octets": {"type": "video_url", "video_url": {"url": URI.replace("video/mp4", "")}},
    "with parameters": {
        "type": "video_url",
        "video_url": {"url": URI.replace("video/mp4", "video/mp4;codecs=avc1")},
    },
    "mlx": {"type": "video", "video": URI},
    "qwen": {"type": "video", "video": {"url": URI}},
    "llama.cpp": {"type": "input_video", "input_video": {"data": RAW}},
    "llama.cpp before 0.3": {"type": "input_video", "input_video": RAW},
    "anthropic": {
        "type": "input_video",
        "source": {"type": "base64", "media_type": "video/mp4", "data": RAW},
    },
    "litellm": {"type": "file", "file": {"file_data": URI, "filename": "../../x.mp4"}},
    "file address": {"type": "file", "file": {"file_id": CIRCLE.as_uri()}},
    "local address": {"type": "video_url", "video_url": {"url": CIRCLE.as_uri()}},
    "path": {"type": "video_url", "video_url": str(CIRCLE)},
    "wrong kind": {"type": "image_url", "image_url": {"url": URI.replace("video", "image")}},
}


@pytest.mark.parametrize("form", VIDEO_FORMS)
def test_video_is_seen_in_every_form(client: openai.OpenAI, form: str) -> None:
    part = VIDEO_FORMS[form]
    if form == "wrong kind":
        with pytest.raises(openai.APIStatusError) as refused:
            text_of(client, [part, WHAT])
        assert refused.value.status_code == 415
        return
    assert text_of(client, [part, WHAT]) == "a purple circle"


def images(frames: list[str], **more: Any) -> list[dict[str, Any]]:
    return [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{frame}", **more}}
        for frame in frames
    ]


def test_frigates_question_and_images_are_one_video(
    client: openai.OpenAI, frames: list[str]
) -> None:
    """frigate/genai/openai.py: the text first, then all images, with detail "low"."""
    assert text_of(client, [WHAT, *images(frames, detail="low")]) == "a purple circle"
    which = {"type": "text", "text": "Which way does the circle move?"}
    assert text_of(client, [which, *images(frames, detail="low")]) == "right"
    assert text_of(client, [which, *images(frames[::-1], detail="low")]) == "left"


def test_home_assistants_labelled_images_keep_their_order(
    client: openai.OpenAI, frames: list[str]
) -> None:
    """LLM Vision: a label and an image, alternating, then the question."""
    content: list[dict[str, Any]] = []
    for number, image in enumerate(images(frames[:3]), start=1):
        content += [{"type": "text", "text": f"Image {number}:"}, image]
    answer = client.chat.completions.create(
        model="nano", messages=[{"role": "user", "content": [*content, WHAT]}], max_tokens=100
    )
    shown = answer.model_extra["smolvideo"]["frames"]
    assert [frame["medium"] for frame in shown] == ["Image 1", "Image 2", "Image 3"]


@pytest.mark.parametrize("form", ["joined", "list", "list of base64"])
def test_frames_of_one_part_are_one_video(
    client: openai.OpenAI, frames: list[str], form: str
) -> None:
    url: Any = "data:video/jpeg;base64," + ",".join(frames)
    if form != "joined":
        prefix = "data:image/jpeg;base64," if form == "list" else ""
        url = [prefix + frame for frame in frames]
    part = {"type": "video_url", "video_url": {"url": url}}
    way = {"type": "text", "text": "Which way does the circle move?"}
    assert text_of(client, [part, way]) == "right"


def test_times_of_frames_are_those_of_the_request(client: openai.OpenAI, frames: list[str]) -> None:
    times = [0.5 * place for place in range(8)]
    answer = client.chat.completions.create(
        model="nano",
        messages=asked("What moves?", *images(frames)),
        extra_body={"video": {"frame_times": times, "duration": 5}},
    )
    assert [one["seconds"] for one in answer.model_extra["smolvideo"]["frames"]] == times


BAD_CONTENT: dict[str, tuple[Any, int]] = {
    "unknown kind": ({"type": "video_file", "video_file": URI}, 400),
    "no kind": ({"video_url": URI}, 400),
    "not an object": (URI, 400),
    "sound": ({"type": "input_audio", "input_audio": {"data": RAW, "format": "wav"}}, 415),
    "no url": ({"type": "video_url", "video_url": {}}, 400),
    "empty list": ({"type": "video_url", "video_url": {"url": []}}, 400),
    "no frames": ({"type": "input_video", "input_video": []}, 400),
    "list of lists": ({"type": "video_url", "video_url": [[URI]]}, 400),
    "null": ({"type": "video_url", "video_url": None}, 400),
    "number": ({"type": "image_url", "image_url": 3}, 400),
    "empty": ({"type": "video_url", "video_url": "data:video/mp4;base64,"}, 400),
    "not base64": ({"type": "video_url", "video_url": "data:video/mp4;base64,a!b"}, 400),
    "percent encoding": ({"type": "video_url", "video_url": "data:video/mp4,%00%00"}, 400),
    "truncated": ({"type": "video_url", "video_url": URI[:900]}, 400),
    "a text": (
        {"type": "file", "file": {"file_data": "data:text/plain;base64,aGVsbG8gd29ybGQ="}},
        415,
    ),
    "a web page": ({"type": "input_video", "input_video": "PCFkb2N0eXBlIGh0bWw+PGh0bWw+"}, 415),
    "a playlist": (
        {
            "type": "input_video",
            "input_video": base64.b64encode(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n").decode(),
        },
        415,
    ),
    "ftp": ({"type": "video_url", "video_url": "ftp://example.org/a.mp4"}, 400),
    "unknown key": ({**video_part(), "video": {"frames": 3}}, 400),
    "a window outside": ({**video_part(), "video": {"start": 100}}, 400),
    "a window that is none": ({**video_part(), "video": {"start": "soon"}}, 400),
    "a file without data": ({"type": "file", "file": {"filename": "x.mp4"}}, 400),
    "an image that is none": (
        {"type": "image_url", "image_url": "data:image/png;base64,iVBORw0KGgoAAAAN"},
        400,
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_media_are_never_dropped_silently(client: openai.OpenAI, case: str) -> None:
    part, status = BAD_CONTENT[case]
    with pytest.raises(openai.APIStatusError) as refused:
        text_of(client, [part, WHAT])
    assert refused.value.status_code == status
    body = refused.value.body
    assert isinstance(body, dict)
    assert body.keys() == {"message", "type", "param", "code"}
    assert str(Path.cwd()) not in body["message"]
    assert "/tmp" not in body["message"]


def test_frame_that_cannot_be_decoded_is_named(client: openai.OpenAI, frames: list[str]) -> None:
    broken = base64.b64encode(base64.b64decode(frames[2])[:200]).decode()
    with pytest.raises(openai.BadRequestError, match="image 3 of 8 cannot be decoded"):
        text_of(client, [*images([*frames[:2], broken, *frames[3:]]), WHAT])


def test_more_images_than_the_server_takes_are_an_error(
    client: openai.OpenAI, frames: list[str]
) -> None:
    with pytest.raises(openai.BadRequestError, match="51 frames are more than the 50"):
        text_of(client, [*images(frames * 6 + frames[:3]), WHAT])


def test_more_frames_than_the_request_allows_are_an_error(
    client: openai.OpenAI, frames: list[str]
) -> None:
    with pytest.raises(openai.BadRequestError, match="8 frames are more than the 4"):
        text_of(client, [*images(frames), WHAT], video={"max_frames": 4})


@pytest.mark.parametrize(
    "messages",
    [
        [],
        "What?",
        [{"role": "tool", "content": "x"}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": [video_part()]}],
        [{"role": "assistant", "content": "hello"}],
        [{"role": "system", "content": [video_part()]}, {"role": "user", "content": "?"}],
        [{"role": "user"}],
        [None],
    ],
)
def test_messages_that_ask_nothing_are_an_error(client: openai.OpenAI, messages: Any) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="nano", messages=messages)


@pytest.mark.parametrize(
    "field",
    [
        {"n": 2},
        {"n": "1"},
        {"temperature": -1},
        {"temperature": "hot"},
        {"top_p": 2},
        {"max_tokens": 0},
        {"max_tokens": 1.5},
        {"seed": "x"},
        {"stop": 5},
        {"stop": ["x"] * 17},
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 21},
        {"logprobs": 1},
        {"frequency_penalty": 0.5},
        {"logit_bias": {"5": 1}},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"stream": "yes"},
        {"stream_options": 1},
        {"response_format": {"type": "xml"}},
        {"video": {"fps": 0}},
        {"video": []},
        {"video": {"frame_times": [1, 1]}},
        {"fps": -2},
        {"mm_processor_kwargs": {"size": 5}},
        {"media_io_kwargs": {"video": 3}},
    ],
)
def test_fields_that_cannot_be_honoured_are_named(
    client: openai.OpenAI, field: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        text_of(client, [video_part(), WHAT], **field)
    assert refused.value.param is not None
    assert refused.value.param.partition(".")[0] in field


def test_unknown_fields_are_ignored_and_named_once() -> None:
    notices: list[str] = []
    with running_server(notices=notices) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        for _ in range(2):
            text_of(client, [WHAT], user="me", guided_choice=["a"], **{"x\x1b[31m": 1})
    assert notices == ["fields of requests that are ignored: `guided_choice`, `x`"]
