"""Prompt packing: messages with decoded frames → token ids and square images."""

from collections.abc import Iterator, Sequence

import numpy as np

from smolvideo.errors import PromptError
from smolvideo.frames import FrameBatch, Images
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.context_budget import check_budget
from smolvideo.prompt.encode import encode, to_display_text
from smolvideo.prompt.messages import DEFAULT_OPTIONS, Message, Prompt, PromptOptions
from smolvideo.prompt.resize import frame_transform, image_transform, split_image
from smolvideo.prompt.templates import image_tiles, is_image, render_messages, should_split_images


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
