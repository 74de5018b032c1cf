"""Encoding of prompt parts to token ids; text cannot inject special tokens.

A prompt is a list of parts: plain text, and special tokens by name. Special tokens are looked up;
text is encoded by a tokenizer without special tokens. Adjacent texts are joined first, because the
reference encodes one string that is only split at special tokens; so the ids are identical.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from smolvideo.errors import PromptError
from smolvideo.models.checkpoint import Checkpoint

IMAGE = "<image>"

# Tokens that some tokenizers of the family lack: SmolVLM v1 of 2.2B encodes `<global-img>` as five
# tokens of text.
_TEXT_IF_UNKNOWN = ("<global-img>", "<row_")


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token, repeated ``count`` times."""

    token: str
    count: int = 1


PromptPart = str | SpecialToken


def encode(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> list[int]:
    """Return the token ids of ``pieces``. Raises PromptError for an unknown special token."""
    token_ids: list[int] = []
    for piece in _joined(pieces, checkpoint):
        if isinstance(piece, SpecialToken):
            token_ids += [checkpoint.special_tokens[piece.token]] * piece.count
        else:
            token_ids += _encode_text(piece, checkpoint)
    return token_ids


def count_tokens_of_parts(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> int:
    """Return ``len(encode(pieces, checkpoint))`` without building the list."""
    return sum(
        piece.count if isinstance(piece, SpecialToken) else len(_encode_text(piece, checkpoint))
        for piece in _joined(pieces, checkpoint)
    )


def to_display_text(pieces: Sequence[PromptPart]) -> str:
    """Return the parts as one text for display: repeated special tokens as ``<image ×64>``."""
    return "".join(
        piece
        if isinstance(piece, str)
        else piece.token
        if piece.count == 1
        else f"{piece.token[:-1]} ×{piece.count}{piece.token[-1]}"  # noqa: RUF001
        for piece in pieces
    )


def _joined(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> Iterator[PromptPart]:
    """Yield the parts with adjacent texts joined, and special tokens unknown to the checkpoint as
    text."""
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            text.append(piece)
        elif piece.token not in checkpoint.special_tokens:
            text.append(_written_out(piece, checkpoint))
        else:
            if text:
                yield "".join(text)
                text.clear()
            yield piece
    if text:
        yield "".join(text)


def _written_out(piece: SpecialToken, checkpoint: Checkpoint) -> str:
    if not piece.token.startswith(_TEXT_IF_UNKNOWN):
        raise PromptError(
            f"checkpoint `{checkpoint.name}` has no token `{piece.token}`, which this layout needs",
            hint=f"use its own layout, `{checkpoint.layout}`",
        )
    return piece.token * piece.count


def _encode_text(text: str, checkpoint: Checkpoint) -> list[int]:
    # Arguments and file names may hold bytes that are not UTF-8, which Python represents as lone
    # surrogates.
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    token_ids: list[int] = checkpoint.text_tokenizer.encode(clean, add_special_tokens=False).ids
    return token_ids
