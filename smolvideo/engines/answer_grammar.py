"""Constrained decoding: which tokens may follow, so that an answer becomes JSON by its schema.

The grammar (``smolvideo.answer_schema``) begins with the blank that the checkpoint writes before an
answer, as in its chat template. Special tokens match no text, so none can be part of a string.
"""

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from smolvideo.answer_schema import compile_grammar
from smolvideo.errors import ModelError
from smolvideo.formatting import format_count
from smolvideo.models import Checkpoint
from smolvideo.prompt import Prompt, answer_opening

if TYPE_CHECKING:
    import numpy as np
    import torch
    from llguidance import LLTokenizer


class AnswerGrammar:
    """The state of one answer in the grammar of a schema; advanced by ``accept``.

    Each answer of a batch, and of each fork, has its own.
    """

    def __init__(self, checkpoint: Checkpoint, prompt: Prompt, schema: str) -> None:
        from llguidance import LLMatcher

        grammar = compile_grammar(schema, answer_opening(prompt, checkpoint))
        self._matcher = LLMatcher(_tokenizer_for(checkpoint), grammar, log_level=0)
        self._check()

    @property
    def is_complete(self) -> bool:
        """Whether the document is complete, and nothing can be appended to it."""
        return bool(self._matcher.is_stopped())

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """Return ``logits`` [vocabulary] as float32 on the CPU, minus infinity for tokens that
        cannot follow. Raises ModelError where the grammar becomes too complex."""
        import numpy as np
        import torch

        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        # A table of bytes, because a branch for each of 49,280 bits takes 20 times as long.
        ceilings = np.take(_ceilings(), bits, axis=0).reshape(-1)[: len(logits)]
        values = logits.float().cpu().numpy()
        if len(ceilings) < len(values):
            beyond = np.full(len(values) - len(ceilings), -np.inf, np.float32)
            ceilings = np.concatenate((ceilings, beyond))
        return torch.from_numpy(np.minimum(values, ceilings))

    def accept(self, token_id: int) -> None:
        """Append a token that ``mask`` has left."""
        self._matcher.consume_token(token_id)
        self._check()

    def forced_tokens(self) -> list[int]:
        """Append the tokens that must follow, such as the names of properties, and return them.

        They are those that the tokenizer would make of that text.
        """
        forced: list[int] = self._matcher.compute_ff_tokens()
        if forced:
            self._matcher.consume_tokens(forced)
            self._check()
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = str(self._matcher.get_error()).partition("\n")[0]
            raise ModelError(f"the schema cannot be followed: {reason:.200}")


class IncompleteAnswerError(ModelError):
    """An answer that reached its limit inside of the document of its schema."""


def incomplete_error(max_new_tokens: int, *, in_loop: bool) -> IncompleteAnswerError:
    """Return the error for an answer that reached its limit inside of the document."""
    tokens = format_count(max_new_tokens, "token")
    if in_loop:
        return IncompleteAnswerError(
            f"the answer repeated itself for {tokens}, and its JSON is incomplete",
            hint="`maxLength` and `maxItems` in the schema or `--repetition-penalty 1.1` may help",
        )
    return IncompleteAnswerError(
        f"the JSON of the answer is incomplete after {tokens}",
        hint="`--max-new-tokens` allows more; `maxLength` and `maxItems` in the schema need fewer",
    )


@cache
def _ceilings() -> "np.ndarray[Any, Any]":
    """Return float32 ``[256, 8]``: for each bit of a byte, the lowest first, infinity where it is
    set, else minus infinity."""
    import numpy as np

    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.where(bits == 1, np.float32(np.inf), np.float32(-np.inf))


@lru_cache(maxsize=2)
def _tokenizer_for(checkpoint: Checkpoint) -> "LLTokenizer":
    """Build the vocabulary of a checkpoint as a trie: 0.6 s and 38 MB for 49,280 tokens."""
    from llguidance import LLTokenizer, TokenizerWrapper

    eos = list(checkpoint.eos_token_ids)
    plain = TokenizerWrapper(_PlainTokenizer(checkpoint))
    return LLTokenizer(plain, eos_token=eos)


class _PlainTokenizer:
    """What llguidance needs of a tokenizer, with ``<image>`` in a text as seven characters.

    Its own reader of tokenizer.json would take such a spelling, in an ``enum`` or in the name of a
    property, for the special token, which the grammar then forbids.
    """

    bos_token_id = None

    def __init__(self, checkpoint: Checkpoint) -> None:
        from llguidance import LLTokenizer

        eos = list(checkpoint.eos_token_ids)
        parsed = LLTokenizer(checkpoint.tokenizer.to_str(), eos_token=eos)
        ids = range(parsed.vocab_size)
        self.tokens = [parsed.decode_bytes([token_id]) for token_id in ids]
        special = {token_id for token_id in ids if parsed.is_special_token(token_id)}
        self.special_token_ids = sorted(special | {*checkpoint.special_tokens.values(), *eos})
        self.eos_token_id = eos[0]
        self._encode = checkpoint.text_tokenizer.encode

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):
            raise TypeError("texts only")  # by this llguidance learns what to pass
        return list(self._encode(text, add_special_tokens=False).ids)
