"""Prompt templates: text and special tokens around frames, in three layouts, and their token ids.

A prompt is a list of parts: plain text, and special tokens by name. Special tokens are looked up;
text is encoded by a tokenizer without special tokens. Adjacent texts are joined first, because the
reference encodes one string that is only split at special tokens; so the ids are identical.

``smolvlm``   huggingface/smollm, tools/smolvlm_local_inference/SmolVLM_video_inference.py: "Answer
              briefly." first, then the frames with no text in between, then the question.
``smolvlm2``  transformers 5.23, models/smolvlm/processing_smolvlm.py: an introduction with the
              number of frames in words and the duration, a time stamp before each frame.
``nano``      the bundled model's own: each frame followed by its time stamp, nothing else. With
              causal attention, the stamp's tokens can attend to their frame, so that one attention
              step suffices to look up the content of a time, or the time of a content.

All three share the family's chat template: one ``<|im_start|>``, turns of ``Role: content`` ended
by the checkpoint's turn-ending token and a newline, then the open ``Assistant:``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from smolvideo.errors import PromptError
from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch, FramePlan
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.models.registry import PromptFormat
from smolvideo.prompt.messages import (
    PLACEHOLDER_QUESTION,
    ROLES,
    Media,
    Message,
    PromptOptions,
)
from smolvideo.prompt.resize import Tiles, tiles_of

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


_ANSWER_BRIEFLY = "Answer briefly."
_VIDEO_INTRO = (
    "You are provided the following series of {count} frames from a {duration} [H:MM:SS] video.\n"
)
_FRAME_STAMP = "\nFrame from {stamp}:"
_VIDEO_END = "\n\n"

ANSWER_OPENING = " "
"""Separator between ``Assistant:`` and an answer, the same in every checkpoint's chat template."""

_START = SpecialToken("<|im_start|>")
_FAKE = SpecialToken("<fake_token_around_image>")
_GLOBAL = SpecialToken("<global-img>")


def render_messages(
    messages: Sequence[Message], checkpoint: Checkpoint, options: PromptOptions
) -> list[PromptPart]:
    """Return the parts of the whole prompt, ending with the open assistant turn.

    Raises PromptError if the last turn asks nothing, or a turn is empty.
    """
    check_messages(messages)
    layout = options.layout or checkpoint.layout
    split = should_split_images(messages, checkpoint, options)
    end = SpecialToken(checkpoint.end_of_turn_token)
    pieces: list[PromptPart] = [_START]
    for message in _with_instruction(messages, layout):
        first = message.content[0]
        opening = ANSWER_OPENING if _follows_blank(first, layout) else ""
        pieces.append(f"{message.role.capitalize()}:{opening}")
        for item in message.content:
            if isinstance(item, str):
                pieces.append(item)
            else:
                pieces += _MEDIA_PIECES[layout](item, checkpoint, split)
        pieces += [end, "\n"]
    pieces.append("Assistant:")
    return pieces


def check_question(question: str) -> None:
    """Raises PromptError where ``question`` is empty."""
    if not question.strip():
        raise PromptError(
            "the question is empty", hint=f'ask something, such as "{PLACEHOLDER_QUESTION}"'
        )


def check_messages(messages: Sequence[Message]) -> None:
    """Raise PromptError unless every turn has content and the last one is a question."""
    if not messages or messages[-1].role != "user":
        raise PromptError("there is no question: the last turn of a prompt must be the user's")
    for message in messages:
        if message.role not in ROLES:
            known = ", ".join(f"`{role}`" for role in ROLES)
            raise PromptError(f"a turn is of {known}, not of `{message.role}`")
    if any(not message.content for message in messages):
        raise PromptError("a turn of the conversation is empty")
    check_question("".join(item for item in messages[-1].content if isinstance(item, str)))
    for message in messages:
        for item in message.content:
            if not isinstance(item, str) and not len(item):
                raise PromptError(f"no frames of `{item.metadata.name}` were chosen")


def should_split_images(
    messages: Sequence[Message], checkpoint: Checkpoint, options: PromptOptions
) -> bool:
    """Return whether still images are split into tiles, so that ``pack_prompt`` needs them in their
    original size.

    By default, if the prompt holds exactly one image and nothing else to look at, the checkpoint's
    processor splits images, and the geometry is the official one.
    """
    if options.split_images is not None:
        if options.split_images and (options.layout or checkpoint.layout) == "nano":
            raise PromptError("layout `nano` cannot split pictures into tiles")
        return options.split_images
    media = [item for message in messages for item in message.content if not isinstance(item, str)]
    return (
        checkpoint.splits_images
        and (options.layout or checkpoint.layout) != "nano"
        and (options.geometry or "official") == "official"
        and len(media) == 1
        and len(media[0]) == 1
        and is_image(media[0])
        and (isinstance(media[0], FramePlan) or media[0].geometry is None)
    )


def is_image(media: Media) -> bool:
    """Return whether ``media`` is a still image, not the frames of a video."""
    return media.metadata.kind == "image"


def image_tiles(media: Media, checkpoint: Checkpoint, *, split: bool) -> Tiles:
    """Return the tiles of an image; 0 × 0 if it is not split."""
    if not split:
        return Tiles(0, 0)
    if isinstance(media, FrameBatch):
        if media.geometry is not None:
            raise PromptError(
                f"`{media.metadata.name}` was already fitted to one square and cannot be split"
            )
        height, width = media.images.shape[1:3]
    else:
        height, width = media.metadata.height, media.metadata.width
    return tiles_of(
        height, width, resize_edge=checkpoint.resize_edge, image_size=checkpoint.image_size
    )


def _with_instruction(messages: Sequence[Message], layout: PromptFormat) -> Iterator[Message]:
    """Yield the messages with their preamble: layout ``smolvlm`` opens a turn about a video, not
    about images, with "Answer briefly.".

    A message's own ``preamble`` takes precedence, in every layout.
    """
    instructed = layout != "smolvlm"
    for message in messages:
        if message.preamble is not None:
            instructed = True
            opening = (message.preamble,) if message.preamble else ()
            message = Message(message.role, (*opening, *message.content))
        elif not instructed and any(
            not isinstance(item, str) and not is_image(item) for item in message.content
        ):
            instructed = True
            gap = ("\n",) if isinstance(message.content[0], str) else ()
            message = Message(message.role, (_ANSWER_BRIEFLY, *gap, *message.content))
        yield message


def _follows_blank(first: str | Media, layout: PromptFormat) -> bool:
    """Return whether a blank follows ``User:``: before text and a SmolVLM2 video, not an image."""
    return isinstance(first, str) or (layout == "smolvlm2" and not is_image(first))


def _square(checkpoint: Checkpoint) -> list[PromptPart]:
    return [_FAKE, _GLOBAL, SpecialToken(IMAGE, checkpoint.tokens_per_image), _FAKE]


def _picture(media: Media, checkpoint: Checkpoint, split: bool) -> list[PromptPart]:
    """Return one square per image, or rows of tiles, an empty line and the whole image
    downscaled."""
    tiles = image_tiles(media, checkpoint, split=split)
    if not tiles.rows:
        return _square(checkpoint) * len(media)
    pieces: list[PromptPart] = []
    for row in range(1, tiles.rows + 1):
        for column in range(1, tiles.columns + 1):
            token = SpecialToken(f"<row_{row}_col_{column}>")
            pieces += [_FAKE, token, SpecialToken(IMAGE, checkpoint.tokens_per_image)]
        pieces.append("\n")
    return [*pieces, "\n", *_square(checkpoint)] * len(media)


def _smolvlm_media(media: Media, checkpoint: Checkpoint, split: bool) -> list[PromptPart]:
    if is_image(media):
        return _picture(media, checkpoint, split)
    return _square(checkpoint) * len(media)


def _smolvlm2_media(media: Media, checkpoint: Checkpoint, split: bool) -> list[PromptPart]:
    if is_image(media):
        return _picture(media, checkpoint, split)
    from num2words import num2words

    # If the duration is unknown, transformers takes the last frame's time.
    seconds = int(media.metadata.duration_seconds) or int(media.pts_seconds[-1])
    duration = str(timedelta(seconds=max(seconds, 0)))
    pieces: list[PromptPart] = [_VIDEO_INTRO.format(count=num2words(len(media)), duration=duration)]
    for pts_seconds in media.pts_seconds:
        pieces.append(_FRAME_STAMP.format(stamp=format_timestamp(pts_seconds)))
        pieces += _square(checkpoint)
    return [*pieces, _VIDEO_END]


def _nano_media(media: Media, checkpoint: Checkpoint, split: bool) -> list[PromptPart]:
    image = SpecialToken(IMAGE, checkpoint.tokens_per_image)
    if is_image(media):
        return [image] * len(media) + ["\n"]
    pieces: list[PromptPart] = []
    for pts_seconds in media.pts_seconds:
        pieces += [image, f"{format_timestamp(pts_seconds)}\n"]
    return pieces


_MEDIA_PIECES = {"smolvlm": _smolvlm_media, "smolvlm2": _smolvlm2_media, "nano": _nano_media}
