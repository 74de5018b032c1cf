"""``ask --continue``: reopen the last conversation, and save answers of ``ask`` for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from smolvideo.answer import Answer
from smolvideo.cli.conversation_options import ConversationFlags, merge_settings, other_model
from smolvideo.cli.loading import load_engine_for
from smolvideo.cli.options import read_sampling
from smolvideo.conversation import Attachment, Conversation, RunningTurn, Settings, Turn
from smolvideo.conversation.commands import subtitles_for_attachment
from smolvideo.conversation.resume import restore_attachments, resume
from smolvideo.conversation.store import create, latest_id, reopen
from smolvideo.errors import ModelError, SourceError
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress
from smolvideo.show.console import Output
from smolvideo.source import VideoSource


@contextmanager
def reopen_last(
    given: ConversationFlags,
    *,
    sources: list[VideoSource],
    screen: Output,
    on_progress: OnProgress,
) -> Iterator[Conversation]:
    """Reopen the last conversation with its frames, and attach the new ``sources``."""
    # Restore the conversation.
    with reopen(latest_id()) as (journal, kept):
        settings = merge_settings(given, kept.settings, has_sources=bool(sources))
        conversation = resume(kept, load_engine_for, keeper=journal, settings=settings)
        lost = restore_attachments(conversation, kept, journal.folder, on_progress=on_progress)
        if not conversation.attachments and not sources:
            raise SourceError(
                "; ".join(lost) or "the last conversation has nothing to look at",
                hint='name something to look at: `smolvideo ask --continue VIDEO "And then?"`',
            )
        screen.notes(lost)
        # Apply a new model and new sources.
        if (model := other_model(given, kept.settings)) is not None:
            conversation.switch_model(model, on_progress=on_progress)
        if sources:
            looks = conversation.attach(
                sources, sampling=read_sampling(given), on_progress=on_progress
            )
            if given.subtitles is not None:
                text, heard = subtitles_for_attachment(
                    looks[0], given.subtitles, reader=settings.reader
                )
                conversation.set_subtitles(looks[0], text, notices=heard)
        yield conversation
        if journal.problem is not None:
            screen.notice(journal.problem)


@dataclass(frozen=True)
class FinishedAnswer:
    """A complete answer with its prompt."""

    prepared: PreparedPrompt
    answer: Answer


def require_finished(asked: RunningTurn) -> FinishedAnswer:
    """Return the complete answer of a turn.

    Raises the turn's error, or ModelError if it was stopped.
    """
    if asked.error is not None:
        raise asked.error
    if asked.prepared is None or asked.answer is None:
        raise ModelError("the answer was broken off before its end")
    return FinishedAnswer(asked.prepared, asked.answer)


def save_as_conversation(
    settings: Settings, prepared: PreparedPrompt, answer: Answer, *, subtitles: str | None
) -> str | None:
    """Save an answer of ``ask`` as a conversation; return the error message if that failed.

    Frames are not saved, only their times, as they can be decoded again.
    """
    with create(settings) as journal:
        journal.keeps_frames = False
        several = len(prepared.sources) > 1
        for number, (source, batch) in enumerate(
            zip(prepared.sources, prepared.batches, strict=True), start=1
        ):
            look = Attachment(number, source, batch, prepared.sampling, turn=0)
            journal.save_attachment(look if several else replace(look, subtitles=subtitles))
        journal.save_turn(
            Turn(
                prepared.question,
                answer.text,
                usage=answer.usage,
                model=settings.model,
                notices=answer.notices,
            )
        )
        return journal.problem
