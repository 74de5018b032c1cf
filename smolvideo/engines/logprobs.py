"""Log-probabilities of the tokens of an answer, and of the most likely alternatives to each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolvideo.models import Checkpoint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenLogprob:
    """A token with its natural logarithm of the probability; ``content`` are the bytes of its
    text, which may be part of a character. ``top`` are the most likely tokens in its place."""

    content: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


class LogprobRecorder:
    """An ``OnToken`` callback that records the log-probability of each token, the end token
    excluded.

    The probabilities are those of the model, before temperature and penalties.
    """

    def __init__(self, checkpoint: Checkpoint, *, num_top: int = 0) -> None:
        self.tokens: list[TokenLogprob] = []
        self._checkpoint = checkpoint
        self._num_top = num_top

    def __call__(self, token_id: int, logits: "torch.Tensor") -> None:
        if token_id in self._checkpoint.eos_token_ids:
            return
        probabilities = logits.float().log_softmax(-1)
        top: tuple[TokenLogprob, ...] = ()
        if self._num_top:
            values, ids = probabilities.topk(min(self._num_top, len(probabilities)))
            top = tuple(
                TokenLogprob(self._content(int(one)), float(value))
                for value, one in zip(values, ids, strict=True)
            )
        self.tokens.append(
            TokenLogprob(self._content(token_id), float(probabilities[token_id]), top)
        )

    def _content(self, token_id: int) -> bytes:
        token = self._checkpoint.tokenizer.id_to_token(token_id) or ""
        try:
            return bytes(_BYTES[character] for character in token)
        except KeyError:  # a special token, which is written as it is
            return token.encode("utf-8")


def _byte_characters() -> dict[str, int]:
    """Return the byte of each character of a byte-level BPE vocabulary.

    Printable bytes stand for themselves, the others for code points from 256 on: GPT-2's
    ``bytes_to_unicode`` (https://github.com/openai/gpt-2/blob/master/src/encoder.py).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {chr(byte): byte for byte in printable}
    return characters | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_characters()
