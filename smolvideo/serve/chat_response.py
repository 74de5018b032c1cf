"""Responses of ``/v1/chat/completions``, whole and streamed, with what is ours in ``smolvideo``.

https://platform.openai.com/docs/api-reference/chat/object and ``…/chat-streaming``. Fields that
clients do not know survive in the ``model_extra`` of OpenAI's own client.
"""

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from smolvideo.engines import TokenLogprob
from smolvideo.serve.api_errors import ApiError, name_fields
from smolvideo.serve.chat import Finished, PreparedChat

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients skip: proxies and clients give up on a silent connection."""


class ChatResponse:
    """The response to one request: its id and time are the same in every chunk."""

    def __init__(self, chat: PreparedChat, model: str) -> None:
        self._chat = chat
        self._model = model
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def whole(self, finished: Finished) -> dict[str, Any]:
        """Return the body of a response that is not streamed."""
        logprobs = _logprobs(finished.all_logprobs) if self._chat.request.logprobs else None
        return {
            **self._head("chat.completion"),
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": finished.answer.text,
                        "refusal": None,
                    },
                    "finish_reason": finish_reason(finished, self._chat),
                    "logprobs": logprobs,
                }
            ],
            "usage": self.usage(finished),
            "smolvideo": self.extras(finished),
        }

    def first_chunk(self) -> bytes:
        """Return the chunk with the role."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunk(self, text: str, logprobs: Sequence[TokenLogprob] = ()) -> bytes:
        """Return the chunk of a piece of text."""
        return self._chunk({"content": text}, logprobs)

    def last_chunks(self, finished: Finished) -> Iterator[bytes]:
        """Yield the chunk with the finish reason, that with the usage if asked, and the end."""
        reason = finish_reason(finished, self._chat)
        extras = {"smolvideo": self.extras(finished)}
        yield self._chunk({}, finished.logprobs, finish_reason=reason, **extras)
        if self._chat.request.include_usage:
            yield _event(
                {
                    **self._head("chat.completion.chunk"),
                    "choices": [],
                    "usage": self.usage(finished),
                }
            )
        yield DONE

    def usage(self, finished: Finished) -> dict[str, Any]:
        """Return the token counts in OpenAI's form."""
        usage = finished.answer.usage
        return {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.answer_tokens,
            "total_tokens": usage.prompt_tokens + usage.answer_tokens,
            "prompt_tokens_details": {
                "cached_tokens": finished.cached_tokens,
                "image_tokens": self._chat.image_tokens,
            },
        }

    def extras(self, finished: Finished) -> dict[str, Any]:
        """Return frame times, cost and notices."""
        usage = finished.answer.usage
        prepared = self._chat.prepared
        return {
            "frames": [
                {"medium": source.name, "seconds": round(seconds, 3)}
                for source, batch in zip(prepared.sources, prepared.batches, strict=True)
                for seconds in batch.pts_seconds
            ],
            "frames_from_cache": finished.cached_images + usage.frames_from_cache,
            "seconds": {stage: round(seconds, 4) for stage, seconds in usage.seconds.items()},
            "notices": list(map(name_fields, finished.answer.notices)),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(
        self,
        delta: dict[str, Any],
        logprobs: Sequence[TokenLogprob] = (),
        finish_reason: str | None = None,
        **more: Any,
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        if self._chat.request.logprobs:
            choice["logprobs"] = _logprobs(logprobs)
        return _event({**self._head("chat.completion.chunk"), "choices": [choice], **more})


def finish_reason(finished: Finished, chat: PreparedChat) -> str:
    """Return OpenAI's word for why the answer ended."""
    answer, most = finished.answer, chat.prepared.generation.max_new_tokens
    was_cut = answer.stop_reason == "empty" and answer.usage.answer_tokens >= most
    return "length" if answer.stop_reason == "length" or was_cut else "stop"


def error_event(error: ApiError) -> bytes:
    """Return the event of an error after the first byte of a stream."""
    return _event(error.to_json())


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=True).encode("ascii") + b"\n\n"


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {
        "content": [
            {**_logprob(token), "top_logprobs": [_logprob(one) for one in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.content.decode("utf-8", "replace"),
        "logprob": max(token.logprob, -9999.0),
        "bytes": list(token.content),
    }
