"""A chat request from its body to the events of its answer; HTTP is elsewhere.

Preparing (base64, files, decoding, counting, packing) runs in a thread of its own while the engine
answers somebody else; the engine's thread only encodes, prefills and generates.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from smolvideo.answer import Answer
from smolvideo.calibration import kept_calibration
from smolvideo.engines import GenerationOptions, LogprobRecorder, TokenLogprob
from smolvideo.models import Checkpoint
from smolvideo.pipeline import (
    MediaTurn,
    PreparedPrompt,
    answer_by_choice,
    decode_turns,
    pack_turns,
    place_media,
    reserve_context,
)
from smolvideo.progress import Progress
from smolvideo.prompt import count_tokens
from smolvideo.serve.api_errors import ApiError
from smolvideo.serve.chat_request import ChatRequest
from smolvideo.serve.frame_store import FrameStore, StoredFrames
from smolvideo.serve.media_store import MediaStore
from smolvideo.serve.metrics import Metrics
from smolvideo.serve.options import ServerOptions
from smolvideo.serve.worker import EngineWorker, Job, SessionUse

_MAX_ANSWER_SHARE = 4
"""An answer may take this part of the context (a quarter) when frames are chosen: clients ask for
thousands of tokens, and no frame would be left."""


@dataclass(frozen=True)
class PreparedChat:
    """A packed request, and the digests of its media's pixels."""

    request: ChatRequest
    prepared: PreparedPrompt
    digests: tuple[str, ...]
    notices: tuple[str, ...]
    image_tokens: int


@dataclass(frozen=True)
class Piece:
    """A piece of the answer's text, with the tokens generated since the last one."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Finished:
    """The whole answer, the tokens since the last piece and all of them, and what the session held
    before."""

    answer: Answer
    logprobs: tuple[TokenLogprob, ...]
    all_logprobs: tuple[TokenLogprob, ...]
    cached_images: int
    cached_tokens: int


Event = Piece | Finished


class ChatService:
    """Prepares requests and answers them in the engine's thread.

    ``checkpoint`` is that of the engine. Thread-safe.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        worker: EngineWorker,
        options: ServerOptions,
        metrics: Metrics,
    ) -> None:
        self.checkpoint = checkpoint
        self.worker = worker
        self.options = options
        self.metrics = metrics
        self.frames = FrameStore(options.frame_cache_bytes)

    def prepare(self, request: ChatRequest, job: Job) -> PreparedChat:
        """Decode and pack a request. Raises ApiError, SmolVideoError, and Cancelled."""
        started = time.perf_counter()
        deadline = started + self.options.prepare_timeout_seconds

        def check(_: Progress | None = None) -> None:
            job.check()
            if time.perf_counter() > deadline:
                seconds = self.options.prepare_timeout_seconds
                raise ApiError(
                    400,
                    f"decoding the media takes more than {seconds:.0f} s",
                    code="invalid_media",
                )

        with self._stored(request, check) as (turns, key, notices):
            found = self._decoded(request, turns, key, check)
            generation = self._room_for_answer(request, turns, found)
            prepared = pack_turns(
                self.checkpoint,
                turns,
                found.decoded,
                sampling=request.sampling,
                prompt_options=self.options.prompt_options,
                generation=generation,
                reader=self.options.reader,
                started=started,
            )
        self.metrics.add_seconds("decode", prepared.seconds.get("decode", 0.0))
        image_tokens = len(prepared.prompt.images) * self.checkpoint.tokens_per_image
        return PreparedChat(
            request, prepared, found.digests, (*request.notices, *notices), image_tokens
        )

    def answer(
        self, chat: PreparedChat, job: Job, worker: EngineWorker, on_event: Callable[[Event], None]
    ) -> None:
        """Answer in the engine's thread, calling ``on_event`` for each event."""
        prompt, request = chat.prepared.prompt, chat.request
        use = worker.sessions.find(chat.digests, prompt)
        recorder = None
        if request.logprobs:
            recorder = LogprobRecorder(self.checkpoint, num_top=request.top_logprobs)
        stream = use.session.stream(
            prompt, chat.prepared.generation, on_progress=job.check, on_token=recorder
        )
        sent = 0

        def new_logprobs() -> tuple[TokenLogprob, ...]:
            nonlocal sent
            if recorder is None:
                return ()
            fresh = tuple(recorder.tokens[sent:])
            sent += len(fresh)
            return fresh

        with stream:
            for text in stream:
                on_event(Piece(text, new_logprobs()))
            answer = stream.result()
        answer = _with_preparation(chat, answer)
        self._count(answer, use)
        every = () if recorder is None else tuple(recorder.tokens)
        on_event(Finished(answer, new_logprobs(), every, use.cached_images, use.cached_tokens))

    def decide(
        self, chat: PreparedChat, choices: Sequence[str], job: Job, worker: EngineWorker
    ) -> Answer:
        """Return the probability of each choice, in the engine's thread."""
        use = worker.sessions.find(chat.digests, chat.prepared.prompt)
        answer = answer_by_choice(
            use.session,
            self.checkpoint,
            chat.prepared,
            choices,
            calibration=kept_calibration(self.checkpoint, choices),
            on_progress=job.check,
        )
        self._count(answer, use)
        return answer

    @contextmanager
    def _stored(
        self, request: ChatRequest, check: Callable[[], None]
    ) -> Iterator[tuple[tuple[MediaTurn, ...], tuple[object, ...], tuple[str, ...]]]:
        """Yield the turns with their media in a temporary folder, the key of their frames, and
        notices."""
        with TemporaryDirectory(prefix="smolvideo-serve-", ignore_cleanup_errors=True) as folder:
            stored = MediaStore(Path(folder), request, self.options, check=check).store()
            samplings = tuple(
                (item.sampling, item.frame_times, item.duration_seconds, item.source.kind)
                for turn in stored.turns
                for item in turn.content
                if not isinstance(item, str)
            )
            yield stored.turns, (stored.digests, samplings, request.sampling), stored.notices

    def _decoded(
        self,
        request: ChatRequest,
        turns: tuple[MediaTurn, ...],
        key: tuple[object, ...],
        check: Callable[[Progress], None],
    ) -> StoredFrames:
        """Return the frames of the media, from the store where they fit beside these texts."""
        found = self.frames.get(key)
        self.metrics.count_frames_lookup(found is not None, bool(key[0]))
        if found is not None and self._fits(turns, found, self._reserved(request)):
            return found
        # Frames are chosen so that later questions about them fit, too.
        room = reserve_context(
            replace(request.generation, max_new_tokens=self._reserved(request)),
            request.sampling,
            self.checkpoint,
        )
        decoded = decode_turns(
            self.checkpoint,
            turns,
            sampling=request.sampling,
            prompt_options=self.options.prompt_options,
            generation=room,
            reader=self.options.reader,
            on_progress=check,
        )
        fresh = StoredFrames.of(decoded)
        if decoded.batches and found is None:
            self.frames.put(key, fresh)
        return fresh

    def _reserved(self, request: ChatRequest) -> int:
        """Return the tokens that an answer may take while frames are chosen."""
        share = self.checkpoint.context_tokens // _MAX_ANSWER_SHARE
        return min(request.generation.max_new_tokens, share)

    def _fits(self, turns: tuple[MediaTurn, ...], found: StoredFrames, room: int) -> bool:
        return self._num_tokens(turns, found) + room <= self.checkpoint.context_tokens

    def _num_tokens(self, turns: tuple[MediaTurn, ...], found: StoredFrames) -> int:
        messages = place_media(turns, found.decoded.batches)
        return count_tokens(messages, self.checkpoint, self.options.prompt_options)

    def _room_for_answer(
        self, request: ChatRequest, turns: tuple[MediaTurn, ...], found: StoredFrames
    ) -> GenerationOptions:
        """Return the generation options with the answer cut to what the context leaves."""
        left = self.checkpoint.context_tokens - self._num_tokens(turns, found)
        asked = request.generation.max_new_tokens
        return replace(request.generation, max_new_tokens=max(1, min(asked, left)))

    def _count(self, answer: Answer, use: SessionUse) -> None:
        usage = answer.usage
        self.metrics.count_answer(
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=use.cached_tokens,
            answer_tokens=usage.answer_tokens,
            frames=usage.frames,
            cached_frames=use.cached_images,
        )
        for stage in ("encode", "prefill", "generate"):
            self.metrics.add_seconds(stage, usage.seconds.get(stage, 0.0))


def _with_preparation(chat: PreparedChat, answer: Answer) -> Answer:
    """Return the answer with the stages and notices of its preparation."""
    prepared = chat.prepared
    return replace(
        answer,
        usage=replace(answer.usage, seconds={**prepared.seconds, **answer.usage.seconds}),
        notices=tuple(dict.fromkeys((*chat.notices, *prepared.notices, *answer.notices))),
    )
