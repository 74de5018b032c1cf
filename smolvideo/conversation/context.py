"""Context of a question: the messages of the conversation, trimmed to the context window.

Turns are trimmed before attachments, and old before new. Frames precede the turns about them, so
the prompt of a growing conversation keeps its prefix, and only the new suffix is prefilled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from smolvideo.conversation.turns import Attachment, Turn, attachment_label
from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch, FramePlan
from smolvideo.models import Checkpoint
from smolvideo.pipeline.prepare_prompt import RESERVED_CONTEXT_DIVISOR
from smolvideo.prompt import Message, PromptOptions, count_tokens, has_too_many_images
from smolvideo.sanitize import display_name


@dataclass(frozen=True)
class Context:
    """The messages of a question, and the indices of the first turn and attachment in them.

    ``tokens`` counts the messages, without the answer.
    """

    messages: tuple[Message, ...]
    first_turn: int = 0
    first_attachment: int = 0
    tokens: int = 0


EMPTY_CONTEXT = Context(())


def build_messages(
    attachments: Sequence[Attachment],
    turns: Sequence[Turn],
    question: str,
    *,
    first_turn: int = 0,
    first_attachment: int = 0,
) -> tuple[Message, ...]:
    """Build messages from ``first_turn`` and ``first_attachment`` on, ending with ``question``."""
    content: list[str | FrameBatch | FramePlan] = []
    messages: list[Message] = []
    in_context = attachments[first_attachment:]
    last = len(turns)
    for place, turn in enumerate([*turns, None]):
        for attachment in in_context:
            if min(attachment.turn, last) == place:
                content += _shown(attachment, attachments)
        if turn is None:
            messages.append(Message("user", (*content, question)))
        elif place >= first_turn and turn.is_in_history:
            messages.append(Message("user", (*content, turn.question)))
            messages.append(Message("assistant", (turn.text.strip(),)))
            content = []
    return tuple(messages)


def trim_to_context(
    attachments: Sequence[Attachment],
    turns: Sequence[Turn],
    question: str,
    checkpoint: Checkpoint,
    options: PromptOptions,
    *,
    max_new_tokens: int,
    previous: Context = EMPTY_CONTEXT,
) -> Context:
    """Trim the conversation so that it fits the context with an answer of ``max_new_tokens``.

    What was trimmed before (``previous``) stays out. Attachments of this question are never
    trimmed: if they alone exceed the context, the messages are returned nevertheless, and packing
    them raises.
    """
    room = checkpoint.context_tokens - max_new_tokens
    # Trimming frees as much as is reserved when the number of frames is chosen: each cut
    # invalidates the KV cache after it, so cuts should be rare.
    spare = checkpoint.context_tokens // RESERVED_CONTEXT_DIVISOR
    at_least = sum(attachment.turn < len(turns) for attachment in attachments)
    at_least = min(at_least, max(0, len(attachments) - 1))

    def counted(first_attachment: int, first_turn: int) -> Context:
        messages = build_messages(
            attachments, turns, question, first_turn=first_turn, first_attachment=first_attachment
        )
        tokens = count_tokens(messages, checkpoint, options)
        return Context(messages, first_turn, first_attachment, tokens)

    def has_room(context: Context, room: int) -> bool:
        return context.tokens <= room and not has_too_many_images(context.messages, checkpoint)

    # No further trimming if the conversation still fits.
    whole = counted(previous.first_attachment, previous.first_turn)
    if has_room(whole, room):
        return whole
    # Drop as few old attachments as possible, and for them as few turns as possible.
    for first_attachment in range(
        previous.first_attachment, max(previous.first_attachment, at_least) + 1
    ):
        count_from = partial(counted, first_attachment)
        least = count_from(len(turns))
        if has_room(least, room):
            roomy = room - spare if least.tokens <= room - spare else room
            fits = partial(has_room, room=roomy)
            return _first_that_fits(count_from, previous.first_turn, len(turns), fits)
    return counted(max(previous.first_attachment, at_least), len(turns))


def _first_that_fits(
    count_from: Callable[[int], Context], low: int, high: int, fits: Callable[[Context], bool]
) -> Context:
    """Bisect the first turn so that the context ``fits``; ``high`` (no turns) must fit."""
    while low < high:
        middle = (low + high) // 2
        if fits(count_from(middle)):
            high = middle
        else:
            low = middle + 1
    return count_from(high)


def describe_trimmed(
    before: Context, after: Context, attachments: Sequence[Attachment], turns: Sequence[Turn]
) -> tuple[str, ...]:
    """Return notices about turns and attachments that ``after`` has trimmed since ``before``."""
    sentences = []
    gone = [turn for turn in turns[before.first_turn : after.first_turn] if turn.is_in_history]
    if gone:
        sentences.append(f"{_oldest(len(gone))} no longer fit the context and are left out")
    for attachment in attachments[before.first_attachment : after.first_attachment]:
        name = display_name(attachment.source.name, max_length=40)
        where = ""
        if attachment.window is not None:
            start, end = attachment.window
            where = f" from {format_timestamp(start)} to {format_timestamp(end)}"
        sentences.append(f"the frames of `{name}`{where} no longer fit the context")
    return tuple(sentences)


def _oldest(count: int) -> str:
    return (
        "the oldest question and its answer"
        if count == 1
        else f"the oldest {count} questions and answers"
    )


def _shown(
    attachment: Attachment, attachments: Sequence[Attachment]
) -> list[str | FrameBatch | FramePlan]:
    content: list[str | FrameBatch | FramePlan] = []
    if label := attachment_label(attachment, attachments):
        content.append(label)
    content.append(attachment.batch)
    if attachment.subtitles and attachment.subtitles.strip():
        content.append(attachment.subtitles.rstrip() + "\n\n")
    return content
