"""``ask --continue``: one more question to the last conversation; and what ``ask`` keeps for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import click

from smolvideo.answer import Answer
from smolvideo.cli.chat_options import other_model, settings_to_go_on
from smolvideo.cli.loading import load_settled_engine
from smolvideo.cli.options import read_sampling
from smolvideo.conversation import Asked, Conversation, Look, Settings, Turn
from smolvideo.conversation.carrying_out import subtitles_for
from smolvideo.conversation.resuming import restore_looks, resume
from smolvideo.conversation.sessions import begin, go_on, latest
from smolvideo.errors import ModelError, SourceError
from smolvideo.pipeline import Prepared
from smolvideo.progress import OnProgress
from smolvideo.show.console import Screen
from smolvideo.source import VideoSource


@contextmanager
def continued(
    ctx: click.Context,
    *,
    sources: list[VideoSource],
    screen: Screen,
    on_progress: OnProgress,
) -> Iterator[Conversation]:
    """The last conversation with its frames, and with ``sources`` as something new to look at."""
    with go_on(latest()) as (journal, kept):
        settings = settings_to_go_on(ctx, kept.settings, has_sources=bool(sources))
        conversation = resume(kept, load_settled_engine, keeper=journal, settings=settings)
        lost = restore_looks(conversation, kept, journal.folder, on_progress=on_progress)
        if not conversation.looks and not sources:
            raise SourceError(
                "; ".join(lost) or "the last conversation has nothing to look at",
                hint='name something to look at: `smolvideo ask --continue VIDEO "And then?"`',
            )
        screen.notes(lost)
        if (model := other_model(ctx, kept.settings)) is not None:
            conversation.use_model(model, on_progress=on_progress)
        if sources:
            looks = conversation.look(sources, sampling=read_sampling(ctx), on_progress=on_progress)
            if ctx.params["subtitles"] is not None:
                text, heard = subtitles_for(
                    looks[0], ctx.params["subtitles"], reader=settings.reader
                )
                conversation.give_subtitles(looks[0], text, notices=heard)
        yield conversation
        if journal.problem is not None:
            screen.note(journal.problem)


@dataclass(frozen=True)
class Whole:
    """An answer that was made to its end."""

    prepared: Prepared
    answer: Answer


def whole(asked: Asked) -> Whole:
    """What came of a question; raises its error, and KeyboardInterrupt where it was stopped."""
    if asked.error is not None:
        raise asked.error
    if asked.prepared is None or asked.answer is None:
        raise ModelError("the answer was broken off before its end")
    return Whole(asked.prepared, asked.answer)


def keep_asked(
    settings: Settings, prepared: Prepared, answer: Answer, *, subtitles: str | None
) -> str | None:
    """Keep what ``ask`` answered, to go on with; why it could not be kept, if so.

    Words and times alone: the frames can be decoded again.
    """
    with begin(settings) as journal:
        journal.keeps_frames = False
        several = len(prepared.sources) > 1
        for number, (source, batch) in enumerate(
            zip(prepared.sources, prepared.batches, strict=True), start=1
        ):
            look = Look(number, source, batch, prepared.sampling, turn=0)
            journal.keep_look(look if several else replace(look, subtitles=subtitles))
        journal.keep_turn(
            Turn(
                prepared.question,
                answer.text,
                usage=answer.usage,
                model=settings.model,
                notices=answer.notices,
            )
        )
        return journal.problem
