"""What of a conversation the model is told: all of it, or what fits its context.

Words are left out before frames, and old before new. Frames stand before the words that were said
about them, so a conversation that grows begins as it did, and only what is new is read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from smolvideo.conversation.turns import Attachment, Turn, attachment_label
from smolvideo.frames import FrameBatch, FramePlan
from smolvideo.models import Checkpoint
from smolvideo.prompt import Message, PromptOptions, count_tokens
from smolvideo.sanitize import display_name
from smolvideo.times import format_timestamp

_SPARE_SHARE = 8
"""What has no room is left out until an eighth of the context is free: every cut makes all words
behind it be read again, so cuts should be rare.
"""


@dataclass(frozen=True)
class Context:
    """The messages of a question, and from where on turns and looks are in them.

    ``tokens`` counts the messages, without the answer.
    """

    messages: tuple[Message, ...]
    first_turn: int = 0
    first_look: int = 0
    tokens: int = 0


EMPTY_CONTEXT = Context(())


def build_messages(
    looks: Sequence[Attachment],
    turns: Sequence[Turn],
    question: str,
    *,
    first_turn: int = 0,
    first_look: int = 0,
) -> tuple[Message, ...]:
    """The conversation from a turn and a look on, ending with ``question``."""
    content: list[str | FrameBatch | FramePlan] = []
    messages: list[Message] = []
    told = looks[first_look:]
    last = len(turns)
    for place, turn in enumerate([*turns, None]):
        for look in told:
            if min(look.turn, last) == place:
                content += _shown(look, looks)
        if turn is None:
            messages.append(Message("user", (*content, question)))
        elif place >= first_turn and turn.is_in_history:
            messages.append(Message("user", (*content, turn.question)))
            messages.append(Message("assistant", (turn.text.strip(),)))
            content = []
    return tuple(messages)


def trim_to_context(
    looks: Sequence[Attachment],
    turns: Sequence[Turn],
    question: str,
    checkpoint: Checkpoint,
    options: PromptOptions,
    *,
    max_new_tokens: int,
    previous: Context = EMPTY_CONTEXT,
) -> Context:
    """As much of the conversation as the context holds beside an answer of ``max_new_tokens``.

    What was left out before (``previous``) stays out. Looks of this question are never left out:
    where they alone are too much, the messages are returned as they are, and packing them says so.
    """
    room = checkpoint.context_tokens - max_new_tokens
    spare = checkpoint.context_tokens // _SPARE_SHARE
    at_least = sum(look.turn < len(turns) for look in looks)
    at_least = min(at_least, max(0, len(looks) - 1))

    def counted(first_look: int, first_turn: int) -> Context:
        messages = build_messages(
            looks, turns, question, first_turn=first_turn, first_look=first_look
        )
        tokens = count_tokens(messages, checkpoint, options)
        return Context(messages, first_turn, first_look, tokens)

    whole = counted(previous.first_look, previous.first_turn)
    if whole.tokens <= room:
        return whole
    for first_look in range(previous.first_look, max(previous.first_look, at_least) + 1):
        told = partial(counted, first_look)
        least = told(len(turns))
        if least.tokens <= room:
            roomy = room - spare if least.tokens <= room - spare else room
            return _first_that_fits(told, previous.first_turn, len(turns), roomy)
    return counted(max(previous.first_look, at_least), len(turns))


def _first_that_fits(told: Callable[[int], Context], low: int, high: int, room: int) -> Context:
    """The most turns within ``room``; with none of them (``high``) it fits."""
    while low < high:
        middle = (low + high) // 2
        if told(middle).tokens <= room:
            high = middle
        else:
            low = middle + 1
    return told(high)


def describe_trimmed(
    before: Context, after: Context, looks: Sequence[Attachment], turns: Sequence[Turn]
) -> tuple[str, ...]:
    """Sentences for the person about what the model no longer knows; none where nothing changed."""
    sentences = []
    gone = [turn for turn in turns[before.first_turn : after.first_turn] if turn.is_in_history]
    if gone:
        sentences.append(f"{_oldest(len(gone))} no longer fit the context and are left out")
    for look in looks[before.first_look : after.first_look]:
        name = display_name(look.source.name, max_length=40)
        where = ""
        if look.window is not None:
            start, end = look.window
            where = f" from {format_timestamp(start)} to {format_timestamp(end)}"
        sentences.append(f"the frames of `{name}`{where} no longer fit the context")
    return tuple(sentences)


def _oldest(count: int) -> str:
    return (
        "the oldest question and its answer"
        if count == 1
        else f"the oldest {count} questions and answers"
    )


def _shown(look: Attachment, looks: Sequence[Attachment]) -> list[str | FrameBatch | FramePlan]:
    content: list[str | FrameBatch | FramePlan] = []
    if label := attachment_label(look, looks):
        content.append(label)
    content.append(look.batch)
    if look.subtitles and look.subtitles.strip():
        content.append(look.subtitles.rstrip() + "\n\n")
    return content
