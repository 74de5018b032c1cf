"""The engine ``openai``: frames are chosen and fitted here, and a server answers.

Any OpenAI-compatible server that takes images will do. ``smolvideo serve`` gets the frames exactly
as the model takes them, with their times, and gives the same answer as here; other servers get
them in their displayed aspect, each after its time stamp.
"""

import base64
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isqrt
from typing import Any, Self, get_args

import numpy as np

from smolvideo.answer import Answer, AnswerStream, StopReason, Usage
from smolvideo.closing import ClosedOnExit
from smolvideo.engines.answer_text import StopStringBuffer
from smolvideo.engines.base import GenerationOptions, OnToken, closed_error
from smolvideo.engines.openai_client import OpenAIClient, RemoteModel
from smolvideo.errors import ModelError, UsageError
from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch, Images
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.models.registry import AUTO, PromptFormat
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Message, Prompt
from smolvideo.sanitize import display_name

REMOTE_ENGINE = "openai"

_CONTEXT_TOKENS = 8192
_IMAGE_SIZE = 512
_TOKENS_PER_IMAGE = 64
"""What is assumed of a server that does not say: those of SmolVLM2, whose prompts are the shortest;
a server that takes fewer frames says so itself."""
_JPEG_QUALITY = 90
_MAX_SIDE = 4096


def remote_checkpoint(base_url: str, model: str = AUTO) -> Checkpoint:
    """Return what is known of a server's model, as far as prompts need it.

    Text is counted with the tokenizer of nano, which makes more tokens of it than larger ones do.
    ``auto`` is the model of a server that has one. Raises UsageError for no address, ModelError
    where nothing answers, the server has no such model, or ``auto`` could be several.
    """
    client = OpenAIClient(base_url)
    remote = _find_model(client, model)
    known = open_checkpoint("nano", weights=False)
    side = _detail(remote, "image_size", _IMAGE_SIZE, 16, 2048)
    per_image = _detail(remote, "tokens_per_image", _TOKENS_PER_IMAGE, 1, 4096)
    max_images = _detail(remote, "max_frames", 0, 1, 10**6) or None
    layout: PromptFormat = "smolvlm2"
    if remote.details is not None and remote.details.get("layout") in get_args(PromptFormat):
        layout = remote.details["layout"]
    marks = ("<fake_token_around_image>", "<global-img>", "<image>", "<|im_start|>")
    return replace(
        known,
        name=remote.name,
        layout=layout,
        revision=None,
        image_size=side,
        patch_size=max(1, side // isqrt(per_image)),
        scale_factor=1,
        context_tokens=remote.context_tokens or _CONTEXT_TOKENS,
        resize_edge=_detail(remote, "resize_edge", side, 16, 8192),
        splits_images=False,
        special_tokens={**dict.fromkeys(marks, known.image_token_id), **known.special_tokens},
        weights=None,
        max_images=max_images,
    )


def _find_model(client: OpenAIClient, model: str) -> RemoteModel:
    models = client.models()
    names = ", ".join(f"`{display_name(one.name)}`" for one in models[:5])
    if model == AUTO:
        if not models:
            raise ModelError(
                f"`{client.base_url}` does not list its models",
                hint="name one: `--model NAME`; or is the address wrong? It often ends in `/v1`",
            )
        if len(models) > 1:
            raise ModelError(
                f"`{client.base_url}` has {len(models)} models: name the one to ask",
                hint=f"`--model` can be {names}",
            )
        return models[0]
    found = next((one for one in models if one.name == model), None)
    if found is None and models:
        raise ModelError(
            f"`{client.base_url}` has no model `{model}`", hint=f"`--model` can be {names}"
        )
    return found or RemoteModel(model, None, None)


def _detail(remote: RemoteModel, name: str, default: int, least: int, most: int) -> int:
    value = None if remote.details is None else remote.details.get(name)
    is_fit = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    return value if is_fit and value is not None else default


class RemoteEngine(ClosedOnExit):
    """A server that answers prompts, one at a time; see ``Engine``. It has no likelihoods."""

    name = REMOTE_ENGINE
    dtype = "as served"
    quantize = "none"
    arithmetic = "float"

    def __init__(self, checkpoint: Checkpoint, base_url: str) -> None:
        self.checkpoint = checkpoint
        self._client = OpenAIClient(base_url)
        self.device = self._client.base_url
        started = time.perf_counter()
        remote = _find_model(self._client, checkpoint.name)
        self.load_seconds = time.perf_counter() - started
        self._takes_frames = remote.details is not None
        self._closed = False

    @classmethod
    def connect(cls, base_url: str, model: str = AUTO) -> Self:
        """Return the engine of a server's model, by default its only one; see
        ``remote_checkpoint``."""
        return cls(remote_checkpoint(base_url, model), base_url)

    def close(self) -> None:
        """Refuse further prompts; nothing is held here."""
        self._closed = True

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<RemoteEngine {self.checkpoint.name}: {self.device}{state}>"

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
        *,
        on_progress: OnProgress = no_progress,
        on_token: OnToken | None = None,
    ) -> AnswerStream:
        """Return the answer of the server, received while it is iterated; see ``Engine.stream``.

        Raises UsageError for a prompt without its messages, or with a preamble of its own.
        """
        if self._closed:
            raise closed_error()
        body = self._body(prompt, generation)
        received = _Received(prompt, self.checkpoint, generation)

        def pieces() -> Iterator[str]:
            on_progress(Progress("prefill"))
            for chunk in self._client.stream_chat(body):
                text = received.add(chunk)
                if received.pieces == 1 and text:
                    on_progress(Progress("prefill", 1, 1))
                on_progress(Progress("generate", received.pieces))
                if text:
                    yield text
            if text := received.rest():
                yield text

        return AnswerStream(pieces(), received.finish)

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Raise UsageError: servers compute no likelihood of given answers."""
        raise UsageError(
            "the engine `openai` cannot compute the likelihood of given answers",
            hint="leave `--server` out: a model on this machine can",
        )

    def _body(self, prompt: Prompt, generation: GenerationOptions) -> dict[str, Any]:
        if not prompt.messages:
            raise UsageError("a server needs the messages of a prompt, not its tokens alone")
        if any(message.preamble is not None for message in prompt.messages):
            raise UsageError("an opening of one's own cannot be sent to a server")
        body: dict[str, Any] = {
            "model": self.checkpoint.name,
            "messages": [
                {"role": message.role, "content": self._content(message)}
                for message in prompt.messages
            ],
            "max_tokens": generation.max_new_tokens,
            "temperature": generation.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if not generation.is_greedy:
            body |= {"top_p": generation.top_p, "seed": generation.with_drawn_seed().seed}
        if generation.repetition_penalty != 1:
            body["repetition_penalty"] = generation.repetition_penalty
        if generation.stop:
            body["stop"] = list(generation.stop)
        if generation.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": _parsed(generation.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        if len(message.content) == 1 and isinstance(message.content[0], str):
            return message.content[0]
        parts: list[dict[str, Any]] = []
        for item in message.content:
            if isinstance(item, str):
                parts.append({"type": "text", "text": item})
                continue
            assert isinstance(item, FrameBatch)
            parts += self._frames(item) if self._takes_frames else list(_stamped_frames(item))
        return parts

    def _frames(self, batch: FrameBatch) -> list[dict[str, Any]]:
        """Return the part of one medium for ``smolvideo serve``: nothing is lost."""
        images = [_data_uri(image, "PNG") for image in batch.images]
        if batch.metadata.kind == "image":
            return [{"type": "image_url", "image_url": {"url": image}} for image in images]
        video: dict[str, Any] = {"frame_times": list(batch.pts_seconds)}
        if batch.metadata.duration_seconds > 0:
            video["duration"] = batch.metadata.duration_seconds
        return [{"type": "video_url", "video_url": {"url": images}, "video": video}]


def _stamped_frames(batch: FrameBatch) -> Iterator[dict[str, Any]]:
    """Yield each frame as an image, after its time stamp where it has one."""
    for seconds, image in zip(batch.pts_seconds, batch.images, strict=True):
        if batch.metadata.kind == "video":
            yield {"type": "text", "text": f"Frame from {format_timestamp(seconds)}:"}
        url = _data_uri(_as_displayed(image, batch), "JPEG")
        yield {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def _as_displayed(image: Images, batch: FrameBatch) -> Images:
    """Return a frame in its displayed aspect: SmolVLM's square squeezes it."""
    from PIL import Image

    height, width = image.shape[:2]
    shown_width, shown_height = batch.metadata.width, batch.metadata.height
    if batch.geometry not in ("official", "direct") or min(shown_width, shown_height) < 1:
        return image
    scale = max(height, width) / max(shown_width, shown_height)
    size = (max(1, round(shown_width * scale)), max(1, round(shown_height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _data_uri(image: Images, kind: str) -> str:
    from PIL import Image

    encoded = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    picture.save(encoded, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    text = base64.b64encode(encoded.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"


def _parsed(schema: Any) -> Any:
    import json

    return json.loads(schema) if isinstance(schema, str) else schema


class _Received:
    """What a server has sent of one answer: text, the reason of its end, and token counts."""

    def __init__(
        self, prompt: Prompt, checkpoint: Checkpoint, generation: GenerationOptions
    ) -> None:
        self.pieces = 0
        self._prompt = prompt
        self._checkpoint = checkpoint
        self._generation = generation
        self._text = StopStringBuffer(generation.stop)
        self._reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._extras: Mapping[str, Any] = {}
        self._started = time.perf_counter()
        self._first: float | None = None

    def add(self, chunk: Mapping[str, Any]) -> str:
        """Add a chunk; return the text that is final now."""
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        if isinstance(chunk.get("smolvideo"), dict):
            self._extras = chunk["smolvideo"]
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return ""
        if isinstance(choice.get("finish_reason"), str):
            self._reason = choice["finish_reason"]
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        if not isinstance(text, str) or not text:
            return ""
        self.pieces += 1
        self._first = self._first or time.perf_counter()
        return self._text.push(text)

    def rest(self) -> str:
        """Return the text that was held back, at the end. Raises ModelError for an answer that
        broke off."""
        if self._reason is None and not self._text.stopped:
            raise ModelError(
                "the server broke the answer off before its end",
                hint="its own log may say why; ask again",
            )
        return self._text.finish()

    def finish(self, text: str) -> Answer:
        """Return the answer with ``text``, all pieces joined."""
        now = time.perf_counter()
        first = self._first or now
        seconds = {"encode": 0.0, "prefill": first - self._started, "generate": now - first}
        usage = Usage(
            prompt_tokens=_count(self._usage.get("prompt_tokens"), len(self._prompt.token_ids)),
            answer_tokens=_count(self._usage.get("completion_tokens"), self.pieces),
            context_tokens=self._checkpoint.context_tokens,
            frames=len(self._prompt.images),
            frames_from_cache=_count(self._extras.get("frames_from_cache"), 0),
            seconds=seconds,
        )
        reason: StopReason = "length" if self._reason == "length" else "end"
        if self._text.stopped:
            reason = "stop_string"
        return Answer(text, reason if text else "empty", usage, self._notices(text, usage))

    def _notices(self, text: str, usage: Usage) -> tuple[str, ...]:
        notices = self._extras.get("notices")
        said = [one for one in notices if isinstance(one, str)] if isinstance(notices, list) else []
        if not text and not said:
            said.append("the answer is empty: the server sent no text")
        if self._reason == "length" and text and not said:
            said.append(
                f"the answer was cut after {usage.answer_tokens} tokens: "
                "`--max-new-tokens` allows more"
            )
        if self._reason not in ("stop", "length", None):
            said.append(f"the server ended the answer: {self._reason:.60}")
        return tuple(said)


def _count(value: Any, default: int) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_count else default
