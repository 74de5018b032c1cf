"""From pieces of a prompt to token ids.

A prompt is a list of pieces: plain text, and special tokens by name. Special tokens are looked up;
text is encoded by a tokenizer that knows no special tokens, so no text can become one. Neighbouring
texts are joined before they are encoded, as the reference encodes one string that is cut at special
tokens only: the ids are the same, joints included.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from smolvideo.errors import PromptError
from smolvideo.models.checkpoint import Checkpoint

IMAGE = "<image>"

# Names that some tokenizers of the family lack: SmolVLM v1 of 2.2B reads `<global-img>` as five
# pieces.
_TEXT_IF_UNKNOWN = ("<global-img>", "<row_")


@dataclass(frozen=True, slots=True)
class SpecialToken:
    """A special token, ``count`` times in a row."""

    token: str
    count: int = 1


PromptPart = str | SpecialToken


def encode(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> list[int]:
    """The token ids of ``pieces``. Raises PromptError for a special token that is not there."""
    token_ids: list[int] = []
    for piece in _joined(pieces, checkpoint):
        if isinstance(piece, SpecialToken):
            token_ids += [checkpoint.special_tokens[piece.token]] * piece.count
        else:
            token_ids += _encode_text(piece, checkpoint)
    return token_ids


def count_tokens_of_parts(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> int:
    """``len(encode(pieces, checkpoint))`` without making the list."""
    return sum(
        piece.count if isinstance(piece, SpecialToken) else len(_encode_text(piece, checkpoint))
        for piece in _joined(pieces, checkpoint)
    )


def to_display_text(pieces: Sequence[PromptPart]) -> str:
    """The pieces as one text for people: runs of a special token as ``<image ×64>``."""
    return "".join(
        piece
        if isinstance(piece, str)
        else piece.token
        if piece.count == 1
        else f"{piece.token[:-1]} ×{piece.count}{piece.token[-1]}"  # noqa: RUF001
        for piece in pieces
    )


def _joined(pieces: Iterable[PromptPart], checkpoint: Checkpoint) -> Iterator[PromptPart]:
    """The pieces with neighbouring texts joined and unknown names written out as text."""
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
    # Arguments and file names may hold bytes that are no UTF-8, which Python keeps as lone
    # surrogates.
    clean = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    token_ids: list[int] = checkpoint.text_tokenizer.encode(clean, add_special_tokens=False).ids
    return token_ids
