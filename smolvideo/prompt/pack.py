"""Prompt packing: exact token counts before decoding, then token ids and square images.

For scoring, a given answer is tokenized as the continuation of a prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeGuard

import numpy as np

from smolvideo.errors import PromptError
from smolvideo.frames import FrameBatch, FramePlan, Images
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.messages import DEFAULT_OPTIONS, Media, Message, Prompt, PromptOptions
from smolvideo.prompt.resize import frame_transform, image_transform, split_image
from smolvideo.prompt.templates import (
    ANSWER_OPENING,
    count_tokens_of_parts,
    encode,
    image_tiles,
    is_image,
    render_messages,
    should_split_images,
    to_display_text,
)

MessagesForFrameCount = Callable[[int], Sequence[Message]]
"""Builds the conversation with at most the given number of frames per video."""


def count_tokens(
    messages: Sequence[Message], checkpoint: Checkpoint, options: PromptOptions = DEFAULT_OPTIONS
) -> int:
    """Return the exact number of tokens of the packed prompt; planned frames suffice."""
    return count_tokens_of_parts(render_messages(messages, checkpoint, options), checkpoint)


def count_images(messages: Sequence[Message]) -> int:
    """Return the number of images of a conversation, each frame being one."""
    media = (item for message in messages for item in message.content if not isinstance(item, str))
    return sum(map(len, media))


def has_too_many_images(messages: Sequence[Message], checkpoint: Checkpoint) -> bool:
    """Return whether there are more images than the checkpoint's server takes in one prompt."""
    return checkpoint.max_images is not None and count_images(messages) > checkpoint.max_images


def check_budget(
    messages: Sequence[Message],
    checkpoint: Checkpoint,
    options: PromptOptions = DEFAULT_OPTIONS,
    *,
    max_new_tokens: int = 1,
) -> int:
    """Return the prompt's token count. Raises PromptError if prompt and answer exceed the context,
    or there are more images than the checkpoint's server takes.

    The error states how many frames would fit.
    """
    tokens = count_tokens(messages, checkpoint, options)
    has_room = tokens + max_new_tokens <= checkpoint.context_tokens
    if has_room and not has_too_many_images(messages, checkpoint):
        return tokens
    _check_text(messages, checkpoint, options, max_new_tokens)
    frames = [len(item) for message in messages for item in message.content if _moves(item)]
    if has_room and not frames:
        raise PromptError(
            f"{count_images(messages)} images are too many: {describe_max_images(checkpoint)}",
            hint="ask about fewer images",
        )
    too_much = f"{tokens:,} tokens; {describe_budget(checkpoint, max_new_tokens)}"
    if not frames:
        raise PromptError(
            f"the pictures and the text take {too_much}",
            hint="ask about fewer pictures, or about one without splitting it",
        )
    fit = max_frames_that_fit(messages, checkpoint, options, max_new_tokens=max_new_tokens)
    hint = f"`--max-frames {fit}` fits" if len(frames) == 1 else f"{fit} of each video fit"
    total = sum(frames)
    shown = f"{total} frame{'s' * (total > 1)}"
    if has_room:
        raise PromptError(f"{shown} are too many: {describe_max_images(checkpoint)}", hint=hint)
    raise PromptError(f"{shown} and the text take {too_much}", hint=hint)


def max_frames_that_fit(
    messages: Sequence[Message] | MessagesForFrameCount,
    checkpoint: Checkpoint,
    options: PromptOptions = DEFAULT_OPTIONS,
    *,
    max_new_tokens: int,
    max_frames: int | None = None,
) -> int:
    """Return the largest number of frames per video that leaves ``max_new_tokens`` for the answer.

    ``messages`` is the conversation with all frames, to be subsampled evenly, or a function that
    builds it for a number of frames (which requires ``max_frames``). Binary search. Raises
    PromptError if the text alone, or one frame, already exceeds the context.
    """
    if callable(messages):
        if max_frames is None:
            raise ValueError("max_frames is needed with a function")
        messages_of, most = messages, max_frames
    else:
        conversation, frames = messages, max_frame_count(messages)
        messages_of = partial(subsample_frames, conversation)
        most = frames if max_frames is None else min(frames, max_frames)

    def fits(frames: int) -> bool:
        planned = messages_of(frames)
        if has_too_many_images(planned, checkpoint):
            return False
        tokens = count_tokens(planned, checkpoint, options)
        return tokens + max_new_tokens <= checkpoint.context_tokens

    _check_text(messages_of(1), checkpoint, options, max_new_tokens)
    if most < 1 or fits(most):
        return most
    if has_too_many_images(messages_of(1), checkpoint):
        raise PromptError(
            f"not one frame of each video fits: {describe_max_images(checkpoint)}",
            hint="ask about fewer videos and images",
        )
    if most == 1 or not fits(1):
        raise PromptError(
            f"not one frame fits beside the text; {describe_budget(checkpoint, max_new_tokens)}",
            hint="ask more briefly, or about fewer videos" + _or_fewer_tokens(max_new_tokens),
        )
    low, high = 1, most  # invariant: low fits, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def max_frame_count(messages: Sequence[Message]) -> int:
    """Return the number of frames of the longest video; 0 without a video."""
    return max(
        (len(item) for message in messages for item in message.content if _moves(item)), default=0
    )


def subsample_frames(messages: Sequence[Message], frames: int) -> list[Message]:
    """Return the conversation with at most ``frames`` frames per video, for counting only."""
    return [
        Message(
            message.role,
            tuple(_chosen(item, frames) if _moves(item) else item for item in message.content),
            message.preamble,
        )
        for message in messages
    ]


def _moves(item: str | Media) -> TypeGuard[Media]:
    return not isinstance(item, str) and not is_image(item)


def _chosen(media: Media, frames: int) -> FramePlan:
    available = len(media)
    count = min(frames, available)
    times = tuple(media.pts_seconds[index * available // count] for index in range(count))
    return FramePlan(times, media.metadata)


def _check_text(
    messages: Sequence[Message],
    checkpoint: Checkpoint,
    options: PromptOptions,
    max_new_tokens: int,
) -> None:
    """Raise PromptError if the text alone, or the answer, exceeds the context."""
    texts = [
        Message(message.role, content, message.preamble)
        for message in messages
        if (content := tuple(item for item in message.content if isinstance(item, str)))
    ]
    if max_new_tokens >= checkpoint.context_tokens:
        raise PromptError(
            f"an answer of {max_new_tokens:,} tokens leaves no room for a question: "
            f"`{checkpoint.name}` holds {checkpoint.context_tokens:,} of both together",
            hint="lower `--max-new-tokens`",
        )
    tokens = count_tokens(texts, checkpoint, options)
    if tokens + max_new_tokens > checkpoint.context_tokens:
        raise PromptError(
            f"the text alone takes {tokens:,} tokens; "
            f"{describe_budget(checkpoint, max_new_tokens)}",
            hint="shorten the question or the subtitles" + _or_fewer_tokens(max_new_tokens),
        )


def _or_fewer_tokens(max_new_tokens: int) -> str:
    """Return the end of a hint; empty for one token, where nothing is generated (choices)."""
    return ", or lower `--max-new-tokens`" if max_new_tokens > 1 else ""


def describe_budget(checkpoint: Checkpoint, max_new_tokens: int) -> str:
    """Describe for the user how many tokens a prompt may have, and the subtraction behind it."""
    budget = checkpoint.context_tokens - max_new_tokens
    return (
        f"`{checkpoint.name}` has room for {budget:,} "
        f"({checkpoint.context_tokens:,} less {max_new_tokens:,} for the answer)"
    )


def describe_max_images(checkpoint: Checkpoint) -> str:
    """Describe for the user how many images the checkpoint's server takes."""
    return f"the server of `{checkpoint.name}` takes {checkpoint.max_images} images at most"


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
        messages=tuple(messages),
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
    open_ids, open_text = _open_turn(prompt, checkpoint)
    text = _opening_after(open_text) + text
    joined = encode([open_text + text], checkpoint)
    if joined[: len(open_ids)] == open_ids:
        return joined[len(open_ids) :]
    return encode([text], checkpoint)


def answer_opening(prompt: Prompt, checkpoint: Checkpoint) -> str:
    """Return what precedes the text of an answer to ``prompt``: a blank, or nothing where the
    prompt ends with one."""
    return _opening_after(_open_turn(prompt, checkpoint)[1])


def _open_turn(prompt: Prompt, checkpoint: Checkpoint) -> tuple[list[int], str]:
    """Return the tokens of ``prompt`` after its last special token, and their text."""
    special = set(checkpoint.special_tokens.values())
    begin = next(
        (at for at in range(len(prompt.token_ids), 0, -1) if prompt.token_ids[at - 1] in special), 0
    )
    open_ids = list(prompt.token_ids[begin:])
    return open_ids, checkpoint.text_tokenizer.decode(open_ids) if open_ids else ""


def _opening_after(open_text: str) -> str:
    return "" if open_text[-1:].isspace() else ANSWER_OPENING
