"""Generation loop of all engines, and the likelihood of given answers.

An engine provides the encoding of frames, the prefill of the prompt and the decoding of one token.
Sampling (greedy or top-p, with a repetition penalty), detokenizing, stop strings, progress and
timing are the same for all.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

from smolvideo.answer import Answer, AnswerStream, StopReason, Usage, broken_off_error
from smolvideo.engines.answer_grammar import AnswerGrammar, incomplete_error
from smolvideo.engines.answer_text import (
    StopStringBuffer,
    StreamingDetokenizer,
    is_loop,
    notices_on,
)
from smolvideo.engines.base import GenerationOptions, OnToken
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory
from smolvideo.engines.token_sampler import TokenSampler, check_logits, no_numbers
from smolvideo.errors import PromptError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import Prompt, answer_ids

if TYPE_CHECKING:
    import torch


_IMPOSSIBLE = -9999.0
"""Log-probability of tokens that cannot follow, as in OpenAI's ``logprobs``."""


class GenerationState:
    """Sample tokens from logits, detokenize them, and stop at the end.

    ``stop_reason`` is None until the answer ends. ``pending_ids`` are the latest tokens, which are
    not in the KV cache: one, and with a schema those that must follow it. ``seconds`` are the times
    of each stage so far, without the time that the consumer of the text takes.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        prompt: Prompt,
        generation: GenerationOptions,
        *,
        on_token: OnToken | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.token_ids: list[int] = []
        self.pending_ids: list[int] = []
        self.stop_reason: StopReason | None = None
        self.frames_from_cache = 0
        self.peak_memory_bytes: int | None = None
        # every stage has an entry, even where the first token is the last
        self.seconds: dict[str, float] = {"encode": 0.0, "prefill": 0.0, "generate": 0.0}
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._most_tokens = generation.max_new_tokens
        self._next_token = TokenSampler(generation, prompt.token_ids)
        self._token_text = StreamingDetokenizer(checkpoint.tokenizer)
        self._answer_text = StopStringBuffer(generation.stop)
        self._on_token = on_token
        self._clock = clock
        self._grammar: AnswerGrammar | None = None
        if generation.schema is not None:
            self._grammar = AnswerGrammar(checkpoint, prompt, str(generation.schema))

    @property
    def tokens(self) -> int:
        """Number of generated tokens, the end token included."""
        return len(self.token_ids)

    def append_token(self, logits: "torch.Tensor") -> str:
        """Sample a token from ``logits`` [vocabulary]; return the text that is final now, often
        none.

        With a schema, tokens that must follow are appended, too: see ``pending_ids``.
        """
        check_logits(logits)
        if self._grammar is None:
            return self._append([self._next_token.sample(logits)], logits)
        forced = [] if self.token_ids else self._grammar.forced_tokens()
        if forced:
            return self._append(forced, None)
        chosen = self._next_token.sample(self._grammar.mask(logits))
        if chosen in self._checkpoint.eos_token_ids:
            return self._append([chosen], logits)
        self._grammar.accept(chosen)
        return self._append([chosen, *self._grammar.forced_tokens()], logits)

    def take_pending(self) -> int:
        """Remove and return the first of ``pending_ids``, of a finished answer the last token."""
        return self.pending_ids.pop(0) if self.pending_ids else self.token_ids[-1]

    def check_complete(self) -> None:
        """Raise ModelError for an answer by a schema that ended inside of its document."""
        if self._grammar is not None and self.stop_reason == "length":
            raise incomplete_error(self._most_tokens, in_loop=is_loop(self.token_ids))

    def _append(self, token_ids: Sequence[int], logits: "torch.Tensor | None") -> str:
        """Append tokens, no more than the answer may have; return the text that is final now.

        The first was chosen from ``logits`` where they are given; the others are certain.
        """
        allowed = token_ids[: self._most_tokens - self.tokens]
        self.pending_ids = list(allowed)
        piece = ""
        for token_id in allowed:
            self.token_ids.append(token_id)
            if self._on_token is not None:
                self._on_token(token_id, self._certain(token_id) if logits is None else logits)
            logits = None
            if token_id not in self._checkpoint.eos_token_ids:
                piece += self._answer_text.push(self._token_text.push(token_id))
        self.stop_reason = self._reason_to_stop(is_cut=len(allowed) < len(token_ids))
        if self.stop_reason is not None:
            piece += self._answer_text.finish()
        return piece

    def _certain(self, token_id: int) -> "torch.Tensor":
        """Return logits that leave no other token a chance, and are finite."""
        import torch

        logits = torch.full((self._checkpoint.tokenizer.get_vocab_size(),), _IMPOSSIBLE)
        logits[token_id] = 0.0
        return logits

    def _reason_to_stop(self, *, is_cut: bool) -> StopReason | None:
        if self.token_ids[-1] in self._checkpoint.eos_token_ids:
            return "end"
        if self._answer_text.stopped:
            return "stop_string"
        if not is_cut and self._grammar is not None and self._grammar.is_complete:
            return "end"
        return "length" if self.tokens == self._most_tokens else None

    def finish(self, text: str) -> Answer:
        """Return the answer with ``text``, all pieces joined. Raises ModelError if it has not
        ended."""
        if self.stop_reason is None:
            raise broken_off_error()
        self.check_complete()
        usage = Usage(
            prompt_tokens=len(self._prompt.token_ids),
            answer_tokens=self.tokens,
            context_tokens=self._checkpoint.context_tokens,
            frames=len(self._prompt.images),
            frames_from_cache=self.frames_from_cache,
            seconds=dict(self.seconds),
            peak_memory_bytes=self.peak_memory_bytes,
        )
        notices = notices_on(
            text, self.stop_reason, self.token_ids, incomplete=self._token_text.incomplete
        )
        return Answer(text, self.stop_reason if text else "empty", usage, notices)

    @contextmanager
    def time_stage(self, stage: str) -> Iterator[None]:
        """Add the time of the block to ``stage``."""
        started = self._clock()
        try:
            yield
        finally:
            self.seconds[stage] += self._clock() - started


Features = TypeVar("Features")
"""An engine's features of the frames of a prompt."""


class DecoderState(Protocol):
    """The decoder over one prompt, with its KV cache."""

    def prefill(self) -> "torch.Tensor":
        """Prefill the prompt; return the logits [vocabulary] of the next token."""
        ...

    def decode(self, token_ids: Sequence[int]) -> "torch.Tensor":
        """Append ``token_ids``, often one; return the logits [vocabulary] of the next token."""
        ...


def generate(
    checkpoint: Checkpoint,
    prompt: Prompt,
    generation: GenerationOptions,
    *,
    device: "torch.device",
    encode: Callable[[], tuple[Features, int]],
    decode: Callable[[Features], DecoderState],
    lock: AbstractContextManager[object] = nullcontext(),  # noqa: B008 -- without state
    on_progress: OnProgress,
    on_token: OnToken | None = None,
) -> AnswerStream:
    """Return the answer to ``prompt``, generated while it is iterated; see ``Engine.stream``.

    ``encode`` also returns the number of frames whose features came from the cache. ``lock`` is
    held while a piece is computed.
    """
    check_context(prompt, checkpoint, generation.max_new_tokens)
    growing = GenerationState(checkpoint, prompt, generation, on_token=on_token)

    def pieces() -> Generator[str, None, None]:
        """Yield the text of the answer piece by piece."""
        # encode the frames
        reset_peak_memory(device)
        with growing.time_stage("encode"):
            rows, growing.frames_from_cache = encode()
        # prefill the prompt, sample the first token
        on_progress(Progress("prefill"))
        with growing.time_stage("prefill"):
            decoding = decode(rows)
            del rows
            piece = growing.append_token(decoding.prefill())
        on_progress(Progress("prefill", 1, 1))
        # decode until the answer ends
        while True:
            on_progress(Progress("generate", growing.tokens))
            if piece:
                yield piece
            if growing.stop_reason is not None:
                break
            with growing.time_stage("generate"):
                piece = growing.append_token(decoding.decode(growing.pending_ids))
        growing.peak_memory_bytes = peak_memory_bytes(device)
        growing.check_complete()  # also for a consumer that never asks for the result

    return AnswerStream(_locked(pieces(), lock), growing.finish)


def _locked(
    pieces: Generator[str, None, None], lock: AbstractContextManager[object]
) -> Iterator[str]:
    """Hold ``lock`` while a piece is computed, and not while its consumer works on it."""
    with closing(pieces):
        while True:
            with lock:
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece


def check_context(
    prompt: Prompt, checkpoint: Checkpoint, new_tokens: int, *, is_scored: bool = False
) -> None:
    """Check that prompt and answer fit the context, and that the images fill the image tokens.

    ``is_scored``: the answer is given, as are choices. Raises PromptError.
    """
    tokens, room = len(prompt.token_ids), checkpoint.context_tokens - len(prompt.token_ids)
    if room < new_tokens:
        raise PromptError(
            f"the prompt takes {tokens:,} tokens and the answer {new_tokens:,}: "
            f"more than the {checkpoint.context_tokens:,} that `{checkpoint.name}` can hold",
            hint="ask for fewer frames (`--max-frames`) or "
            + ("shorter choices" if is_scored else "a shorter answer (`--max-new-tokens`)"),
        )
    places = prompt.token_ids.count(checkpoint.image_token_id)
    if places != len(prompt.images) * checkpoint.tokens_per_image:
        raise PromptError(
            f"the prompt has {places} places for image tokens and {len(prompt.images)} images of "
            f"{checkpoint.tokens_per_image} tokens"
        )
    size = checkpoint.image_size
    if len(prompt.images) and prompt.images.shape[1:3] != (size, size):
        height, width = prompt.images.shape[1:3]
        raise PromptError(
            f"images are {width} by {height}, and `{checkpoint.name}` sees {size} by {size}"
        )


ReadPrompt = Callable[[], "torch.Tensor"]
"""Prefill the prompt; return the logits [vocabulary] of the next token."""

ReadAnswer = Callable[[Sequence[int]], "torch.Tensor"]
"""Return the logits [L, vocabulary] after each of L tokens that follow the prompt; the cache is
left unchanged."""


def log_probabilities(
    checkpoint: Checkpoint,
    prompt: Prompt,
    answers: Sequence[str],
    *,
    with_end: bool,
    read_prompt: ReadPrompt,
    read_answer: ReadAnswer,
) -> list[float]:
    """Return the log-likelihood (natural logarithm) of each of ``answers``; see
    ``Engine.score``."""
    if isinstance(answers, str):  # each of its characters would be scored as an answer
        raise UsageError(f"answers to score must be several texts, not one: {answers!r}")
    answers = list(answers)
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise UsageError(f"answers to score must be one text or more in a list, not {answers!r}")
    all_ids = [answer_ids(prompt, answer, checkpoint) for answer in answers]
    check_context(prompt, checkpoint, max(map(len, all_ids)) + with_end, is_scored=True)
    first = read_prompt()
    ends = checkpoint.eos_token_ids if with_end else ()
    return [_log_probability(token_ids, ends, first, read_answer) for token_ids in all_ids]


def _log_probability(
    token_ids: Sequence[int],
    ends: Sequence[int],
    first: "torch.Tensor",
    read_answer: ReadAnswer,
) -> float:
    """Log-likelihood of ``token_ids`` in sequence, and then of any one of ``ends`` if there are."""
    import torch

    rows = first[None]
    to_read = token_ids if ends else token_ids[:-1]
    if to_read:
        rows = torch.cat((rows, read_answer(to_read)))
    rows = rows.float().log_softmax(-1)
    wanted = torch.tensor(token_ids, device=rows.device)[:, None]
    total = rows[: len(token_ids)].gather(1, wanted).double().sum()
    if ends:
        total += rows[-1, list(ends)].double().logsumexp(0)
    if not math.isfinite(total):
        raise no_numbers(first)
    return float(total)
