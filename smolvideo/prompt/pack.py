"""Prompt packing: messages with decoded frames → token ids and square images.

For scoring, a given answer is tokenized as the continuation of a prompt.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from smolvideo.errors import PromptError
from smolvideo.frames import FrameBatch, Images
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.context_budget import check_budget
from smolvideo.prompt.encode import encode, to_display_text
from smolvideo.prompt.messages import DEFAULT_OPTIONS, Message, Prompt, PromptOptions
from smolvideo.prompt.resize import frame_transform, image_transform, split_image
from smolvideo.prompt.templates import (
    ANSWER_OPENING,
    image_tiles,
    is_image,
    render_messages,
    should_split_images,
)


def pack_prompt(
    messages: Sequence[Message], checkpoint: Checkpoint, options: PromptOptions = DEFAULT_OPTIONS
) -> Prompt:
    """Pack a conversation, ending with the open assistant turn.

    Frames that were not resized while decoding are resized here. Raises PromptError for an empty
    question, for a prompt that exceeds the context, and for frames resized with another geometry.
    """
    check_budget(messages, checkpoint, options)
    pieces = render_messages(messages, checkpoint, options)
    return Prompt(
        token_ids=tuple(encode(pieces, checkpoint)),
        images=_joined(list(_squares(messages, checkpoint, options)), checkpoint.image_size),
        text=to_display_text(pieces),
        context_tokens=checkpoint.context_tokens,
        layout=options.layout or checkpoint.layout,
        geometry=options.geometry or "official",
    )


def _joined(squares: Sequence[Images], side: int) -> Images:
    """Concatenate the squares; those of a single medium are returned without a copy."""
    if len(squares) == 1:
        return squares[0]
    return np.concatenate(squares) if squares else np.zeros((0, side, side, 3), np.uint8)


def _squares(
    messages: Sequence[Message], checkpoint: Checkpoint, options: PromptOptions
) -> Iterator[Images]:
    """Yield the squares of each medium, ``[N, S, S, 3]``, in the order of the image tokens."""
    split = should_split_images(messages, checkpoint, options)
    for message in messages:
        for item in message.content:
            if isinstance(item, str):
                continue
            if not isinstance(item, FrameBatch):
                raise PromptError(f"the frames of `{item.metadata.name}` are planned, not decoded")
            tiles = image_tiles(item, checkpoint, split=split and is_image(item))
            if tiles.rows:
                for picture in item.images:
                    yield split_image(picture, checkpoint, tiles)
            else:
                yield _fitted(item, checkpoint, options)


def _fitted(batch: FrameBatch, checkpoint: Checkpoint, options: PromptOptions) -> Images:
    """Return the batch's images as squares, unchanged if they were resized while decoding."""
    fitter = image_transform if is_image(batch) else frame_transform
    geometry, fit = fitter(checkpoint, options)
    if batch.geometry is None:
        return np.stack([fit(image) for image in batch.images])
    side = checkpoint.image_size
    if batch.geometry != geometry or batch.images.shape[1:3] != (side, side):
        height, width = batch.images.shape[1:3]
        raise PromptError(
            f"the frames of `{batch.metadata.name}` were fitted as `{batch.geometry}` to "
            f"{width}x{height}, but `{checkpoint.name}` needs `{geometry}` and {side}x{side}"
        )
    return batch.images


def answer_ids(prompt: Prompt, answer: str, checkpoint: Checkpoint) -> list[int]:
    """Return the tokens of ``answer`` after those of ``prompt``, without the end-of-turn token.

    ``answer`` is stripped, as ``Answer.text`` is, and separated from the prompt as in the
    checkpoint's chat template: by one blank after ``Assistant:``, by none if the prompt ends with a
    blank. Prompt and answer are tokenized as one text from the last special token on, as they are
    in the middle of a conversation. If a token would span the end of the prompt and the beginning
    of the answer, the answer is tokenized alone, because the prompt's tokens are fixed before
    generation begins. No answer becomes a special token. Raises PromptError for an empty answer.
    """
    text = answer.strip()
    if not text:
        raise PromptError("an answer to score must not be empty")
    special = set(checkpoint.special_tokens.values())
    begin = next(
        (at for at in range(len(prompt.token_ids), 0, -1) if prompt.token_ids[at - 1] in special), 0
    )
    open_ids = list(prompt.token_ids[begin:])
    open_text = checkpoint.text_tokenizer.decode(open_ids) if open_ids else ""
    if not open_text[-1:].isspace():
        text = ANSWER_OPENING + text
    joined = encode([open_text + text], checkpoint)
    if joined[: len(open_ids)] == open_ids:
        return joined[len(open_ids) :]
    return encode([text], checkpoint)
