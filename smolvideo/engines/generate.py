"""Generation loop of all engines, token sampling, and the likelihood of given answers.

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
from smolvideo.engines.answer_text import StopStringBuffer, StreamingDetokenizer, notices_on
from smolvideo.engines.base import GenerationOptions, OnToken
from smolvideo.engines.devices import peak_memory_bytes, reset_peak_memory
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, Progress
from smolvideo.prompt import Prompt, answer_ids

if TYPE_CHECKING:
    import torch


class TokenSampler:
    """Sample tokens one by one; the same seed gives the same tokens.

    Sampling happens on the CPU in float32, whatever the network runs on, with a generator of its
    own: torch's global random state is neither read nor changed.
    """

    def __init__(self, generation: GenerationOptions, prompt_ids: Sequence[int]) -> None:
        import torch

        self._generation = generation.with_drawn_seed()
        self._seen = torch.tensor(sorted(set(prompt_ids)), dtype=torch.long)
        self._random = torch.Generator().manual_seed(self._generation.seed or 0)

    def sample(self, logits: "torch.Tensor") -> int:
        """Sample the next token id from ``logits`` [vocabulary]."""
        options = self._generation
        if options.is_greedy and options.repetition_penalty == 1:
            return argmax(logits)
        scores = self._apply_repetition_penalty(logits.float().cpu())
        token_id = argmax(scores) if options.is_greedy else self._sample_top_p(scores)
        self._see(token_id)
        return token_id

    def _apply_repetition_penalty(self, scores: "torch.Tensor") -> "torch.Tensor":
        """Divide positive and multiply negative logits of tokens seen so far by the repetition
        penalty."""
        import torch

        penalty = self._generation.repetition_penalty
        if penalty == 1:
            return scores
        seen = scores[self._seen]
        scores = scores.clone()
        scores[self._seen] = torch.where(seen < 0, seen * penalty, seen / penalty)
        return scores

    def _sample_top_p(self, scores: "torch.Tensor") -> int:
        """Sample an id from the smallest set of likely tokens whose probabilities reach
        ``top_p``."""
        import torch

        scores = scores.double() - scores.max()  # a tiny temperature must not overflow
        probabilities, ids = (
            (scores / self._generation.temperature).softmax(-1).sort(descending=True, stable=True)
        )
        reached_before = probabilities.cumsum(-1) - probabilities
        probabilities[reached_before >= self._generation.top_p] = 0.0
        drawn = torch.multinomial(probabilities, 1, generator=self._random)
        return int(ids[drawn])

    def _see(self, token_id: int) -> None:
        """Add ``token_id`` to the tokens that the repetition penalty applies to."""
        import torch

        if token_id not in self._seen:
            self._seen = torch.cat([self._seen, torch.tensor([token_id])])


def argmax(scores: "torch.Tensor") -> int:
    """Return the index of the first maximum, or of the first NaN if there is one.

    On a CPU by numpy: torch shares even this among threads, which then spin for more work while the
    next token needs their core. A token of 256M took a fifth longer.
    """
    if scores.device.type == "cpu":
        return int(scores.float().numpy().argmax())
    return int(scores.float().argmax())


def check_logits(logits: "torch.Tensor") -> None:
    """Raise ModelError where the argmax of ``logits`` [vocabulary] is infinite or NaN.

    Reading it also waits for a GPU, so that its failures surface here.
    """
    if not math.isfinite(logits[argmax(logits)]):  # argmax returns the NaN if there is one
        raise no_numbers(logits)


def no_numbers(logits: "torch.Tensor") -> ModelError:
    """Make the error for logits that are infinite or NaN."""
    return ModelError(
        f"`{logits.device}` computed no numbers, but NaN or infinity",
        hint="run with `--dtype float32`, or check the weights",
    )


class GenerationState:
    """Sample tokens from logits, detokenize them, and stop at the end.

    ``stop_reason`` is None until the answer ends. ``seconds`` are the times of each stage so far,
    without the time that the consumer of the text takes.
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

    @property
    def tokens(self) -> int:
        """Number of generated tokens, the end token included."""
        return len(self.token_ids)

    @property
    def last_token_id(self) -> int:
        """The latest token."""
        return self.token_ids[-1]

    def append_token(self, logits: "torch.Tensor") -> str:
        """Sample a token from ``logits`` [vocabulary]; return the text that is final now, often
        none."""
        check_logits(logits)
        self.token_ids.append(self._next_token.sample(logits))
        if self._on_token is not None:
            self._on_token(self.last_token_id, logits)
        if self.last_token_id in self._checkpoint.eos_token_ids:
            self.stop_reason = "end"
            return self._answer_text.finish()
        piece = self._answer_text.push(self._token_text.push(self.last_token_id))
        if self._answer_text.stopped:
            self.stop_reason = "stop_string"
        elif self.tokens == self._most_tokens:
            self.stop_reason = "length"
            piece += self._answer_text.finish()
        return piece

    def finish(self, text: str) -> Answer:
        """Return the answer with ``text``, all pieces joined. Raises ModelError if it has not
        ended."""
        if self.stop_reason is None:
            raise broken_off_error()
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

    def decode(self, token_id: int) -> "torch.Tensor":
        """Append ``token_id``; return the logits [vocabulary] of the next token."""
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
                piece = growing.append_token(decoding.decode(growing.last_token_id))
        growing.peak_memory_bytes = peak_memory_bytes(device)

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


def check_context(prompt: Prompt, checkpoint: Checkpoint, new_tokens: int) -> None:
    """Check that prompt and answer fit the context, and that the images fill the image tokens.
    Raises PromptError."""
    tokens, room = len(prompt.token_ids), checkpoint.context_tokens - len(prompt.token_ids)
    if room < new_tokens:
        raise PromptError(
            f"the prompt takes {tokens:,} tokens and the answer {new_tokens:,}: "
            f"more than the {checkpoint.context_tokens:,} that `{checkpoint.name}` can hold",
            hint="ask for fewer frames (`--max-frames`) or a shorter answer (`--max-new-tokens`)",
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
    check_context(prompt, checkpoint, max(map(len, all_ids)) + with_end)
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
