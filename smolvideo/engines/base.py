"""Protocols of engines, and the options of generation."""

import ctypes
import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

from smolvideo.answer import AnswerStream
from smolvideo.answer_schema import SchemaArgument, compile_grammar, schema_text
from smolvideo.errors import ModelError, UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class GenerationOptions:
    """Sampling, length and stop strings of an answer. Raises UsageError for invalid values.

    ``temperature`` 0 takes the most likely token each time (greedy); above 0 tokens are sampled
    from the smallest set whose probabilities add up to ``top_p`` (nucleus sampling).
    ``repetition_penalty`` above 1 makes tokens of the prompt and of the answer so far less likely
    (CTRL, arXiv 1909.05858). ``stop`` are strings at which the answer ends; they are not part of
    it. ``max_new_tokens`` counts the end token.

    With a ``schema`` the answer is a JSON text that it allows, whatever the model would say: a JSON
    Schema as a mapping or as text, the short form (``name, count int``), or a pydantic model. It is
    kept as JSON text. Strings, arrays and numbers that it does not limit are limited by
    ``smolvideo.answer_schema.bounds``, so that answers end; a document that is not complete after
    ``max_new_tokens`` is a ModelError. UsageError names a keyword that is not supported;
    ModelError where the extra ``json`` is not installed.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: SchemaArgument | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.max_new_tokens, int) or self.max_new_tokens < 1:
            raise UsageError(
                f"max-new-tokens must be a whole number above 0, not {self.max_new_tokens!r}"
            )
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature must be 0 or more, not {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1, not {self.top_p}")
        if not 0 < self.repetition_penalty < float("inf"):
            raise UsageError(f"repetition-penalty must be above 0, not {self.repetition_penalty}")
        if self.seed is not None and not (isinstance(self.seed, int) and 0 <= self.seed < 2**63):
            raise UsageError(f"seed must be between 0 and 2^63 - 1, not {self.seed!r}")
        # A string in place of the tuple would end the answer at each of its characters.
        if not isinstance(self.stop, tuple):
            raise UsageError(f"stop must be a tuple of texts, not {self.stop!r}")
        if not all(self.stop):
            raise UsageError("the text to stop at must not be empty", hint="leave `--stop` out")
        if self.schema is not None:
            if self.stop:
                raise UsageError("`stop` would cut the JSON of a `schema`: give one of them")
            text = schema_text(self.schema)
            compile_grammar(text)
            object.__setattr__(self, "schema", text)

    @property
    def is_greedy(self) -> bool:
        """True where the same prompt always gives the same answer, whatever the seed."""
        return self.temperature == 0

    def with_drawn_seed(self) -> "GenerationOptions":
        """Return these options with a random seed where sampling needs one and none was given.

        Records hold that seed, so the answer can be reproduced.
        """
        if self.is_greedy or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(2**32))

    def to_json(self) -> dict[str, Any]:
        """Return JSON types by option name, the ``schema`` as an object."""
        schema = None if self.schema is None else json.loads(str(self.schema))
        return {**asdict(self), "stop": list(self.stop), "schema": schema}


OnToken = Callable[[int, "torch.Tensor"], None]
"""Called for each token of an answer: its id, and the logits [vocabulary] it was chosen from. Must
return quickly."""


class StreamingEngine(Protocol):
    """A loaded checkpoint that answers prompts, one at a time.

    ``device`` and ``dtype`` are resolved (``cpu``, ``cuda:0``; ``bfloat16``), never ``auto``;
    ``quantize`` is the weight format: ``none`` (all in the dtype), ``int8`` (most weights), or
    ``int4`` (most of the decoder's layers, others as with int8). ``arithmetic`` is ``int8`` where
    activations of many rows are quantized, too, ``float``, or ``auto`` until frames have decided.
    ``load_seconds`` is the time to load the weights.
    """

    @property
    def name(self) -> str: ...
    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def quantize(self) -> str: ...
    @property
    def arithmetic(self) -> str: ...
    @property
    def load_seconds(self) -> float: ...

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = ...,
        *,
        on_progress: OnProgress = no_progress,
    ) -> AnswerStream:
        """Return the answer to ``prompt``, generated while it is iterated.

        Raises PromptError at once where prompt and answer do not fit the context together, and
        ModelError while iterating where the device fails or runs out of memory.
        """
        ...


class Engine(StreamingEngine, Protocol):
    """An engine that also computes the log-likelihood of given answers, and frees its weights.

    A context manager that closes itself. Thread-safe: one thread computes at a time, and answers
    that several threads iterate advance in turns.
    """

    def stream(
        self,
        prompt: Prompt,
        generation: GenerationOptions = ...,
        *,
        on_progress: OnProgress = no_progress,
        on_token: OnToken | None = None,
    ) -> AnswerStream:
        """Return the answer as any ``StreamingEngine`` does, and call ``on_token`` for each of its
        tokens."""
        ...

    def close(self) -> None:
        """Free the weights. Afterwards ``stream`` and ``score``, and answers that are still
        running, raise ModelError; closing again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def score(
        self, prompt: Prompt, answers: Sequence[str], *, with_end: bool = True
    ) -> list[float]:
        """Return the log-likelihood (natural logarithm) of each text as the answer to ``prompt``.

        Texts are as ``Answer.text`` would be: outer blanks make no difference, and the blank that
        the checkpoint writes before an answer is added (see ``prompt.answer_ids``). The likelihood
        of a text is the product of the probabilities of its tokens, and of the end of the turn
        after them (any of the checkpoint's ``eos_token_ids``): without the end, an answer could not
        be compared with one that begins like it. With ``with_end=False`` the end is left out, and
        texts are scored as the beginning of an answer, such as the letter of an option. Nothing is
        normalized by length: longer texts tend to be less likely. Temperature and penalties play no
        part.

        Raises UsageError for one string in place of several and for no text, PromptError for a text
        that is empty or blank and where the longest does not fit the context, ModelError where the
        device fails or computes no finite numbers.
        """
        ...


def describe_engine(engine: StreamingEngine, *, closed: bool) -> str:
    """Format as ``<NativeEngine nano: cpu, bfloat16>``."""
    state = ", closed" if closed else ""
    dtype = format_dtype(engine.dtype, engine.quantize, engine.arithmetic)
    kind = type(engine).__name__
    return f"<{kind} {engine.checkpoint.name}: {engine.device}, {dtype}{state}>"


def closed_error() -> ModelError:
    """Return the error for the use of an engine that is closed."""
    return ModelError(
        "the engine is closed: its weights are no longer in memory",
        hint="load it again, or ask inside of the `with` block that opened it",
    )


def release_memory(device: "torch.device") -> None:
    """Return the memory of freed tensors to a GPU, from torch's own cache, or to the system."""
    import torch

    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    else:
        trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system, where its C library is glibc: what was allocated in small
    pieces stays in the process otherwise, 60 MB after loading 256M."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1


def set_block_bytes(block_bytes: int) -> None:
    """Have blocks of at least ``block_bytes`` returned to the system as soon as they are freed,
    and smaller ones kept, where its C library is glibc (mallopt(3)).

    Its own threshold rises to 32 MB with the first block that is freed. With a smaller one less
    stays in the process; with a larger one what is freed need not be taken from the system again.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, block_bytes)
        library.mallopt(_M_TRIM_THRESHOLD, block_bytes)


def format_dtype(dtype: str, quantize: str = "none", arithmetic: str | None = "float") -> str:
    """Format as ``bfloat16``, ``bfloat16 with int8 weights``, or ``float32 with int8
    arithmetic``; ``auto`` is named as undecided."""
    parts = [] if quantize == "none" else [f"{quantize} weights"]
    if arithmetic == "int8":
        parts.append("int8 arithmetic")
    elif arithmetic == "auto":
        parts.append("arithmetic not chosen yet")
    return f"{dtype} with {' and '.join(parts)}" if parts else dtype


EngineLoader = Callable[..., Engine]
"""``(checkpoint, *, device, dtype, quantize, arithmetic, cache, on_progress) -> Engine``.

Raises ModelError or UsageError.
"""
