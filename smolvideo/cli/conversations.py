"""Conversations of ``ask`` and ``chat``: their options, ``--continue`` of the last one, saving."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from smolvideo.answer import Answer
from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.flags import Flags, flag, to_flag
from smolvideo.cli.model_options import EngineFlags, read_engine_spec
from smolvideo.cli.options import (
    GenerationFlags,
    GeometryFlags,
    PromptFlags,
    SamplingFlags,
    read_generation,
    read_sampling,
)
from smolvideo.conversation import Attachment, Conversation, RunningTurn, Settings, Turn
from smolvideo.conversation.commands import subtitles_for_attachment
from smolvideo.conversation.resume import restore_attachments, resume
from smolvideo.conversation.store import create, latest_id, reopen
from smolvideo.engines import Engine, EngineSpec, GenerationOptions
from smolvideo.errors import ModelError, SourceError, UsageError
from smolvideo.models.registry import is_auto
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress
from smolvideo.prompt import PromptOptions
from smolvideo.show.console import Output
from smolvideo.source import VideoSource

_ONLY_FOR_SOURCES = ("max_frames", "fps", "start", "end", "strategy", "subtitles")
_NOT_WHILE_GOING_ON = ("adapter", "server", "geometry", "layout", "split_images", "reader")
_RUNTIME = ("engine", "device", "dtype", "quantize", "arithmetic", "offline")


class ContinueFlags(Flags, section="Conversation"):
    """Resume the last conversation."""

    goes_on: bool = flag(
        "--continue",
        "-c",
        excludes=("no_keep", "session"),
        help="Continue the last conversation; a SOURCE is added to it.",
    )


class KeepFlags(Flags, section="Conversation"):
    """Whether the conversation is saved."""

    no_keep: bool = flag(help="Do not save the conversation.")


class ConversationFlags(EngineFlags, SamplingFlags, GeometryFlags, PromptFlags, GenerationFlags):
    """All that the settings of a conversation are made of."""


def read_prompt_options(given: ConversationFlags) -> PromptOptions:
    """Read the prompt options."""
    return PromptOptions(
        layout=given.layout, geometry=given.geometry, split_images=given.split_images
    )


def read_settings(given: ConversationFlags) -> Settings:
    """Read the settings of a new conversation. Raises UsageError as the option classes do."""
    spec = read_engine_spec(given)
    return Settings(
        model=spec.model,
        revision=spec.revision,
        engine=spec.engine,
        base_url=spec.base_url,
        device=given.device,
        dtype=given.dtype,
        quantize=given.quantize,
        arithmetic=given.arithmetic,
        adapter=spec.adapter,
        offline=given.offline,
        reader=given.reader,
        sampling=read_sampling(given),
        prompt_options=read_prompt_options(given),
        generation=read_generation(given),
    )


def with_model(settings: Settings, spec: EngineSpec) -> Settings:
    """Return the settings of a conversation with the model of ``spec``."""
    return replace(
        settings, model=spec.model, revision=spec.revision, model_reason=spec.model_reason
    )


def merge_settings(given: ConversationFlags, kept: Settings, *, has_sources: bool) -> Settings:
    """Merge options typed for this run into the saved settings ``kept``; a schema is for this run
    alone.

    The model is not merged: ``Conversation.switch_model`` changes it. Raises UsageError for options
    that have no effect on a resumed conversation.
    """
    for name in (*_NOT_WHILE_GOING_ON, *(() if has_sources else _ONLY_FOR_SOURCES)):
        if given.is_on_command_line(name):
            more = "" if name in _NOT_WHILE_GOING_ON else " without a new source"
            raise UsageError(f"`{to_flag(name)}` has no effect with `--continue`{more}")
    generation = kept.generation
    names = {part.name for part in fields(GenerationOptions)} - {"schema"}
    typed = given.explicit_values(*sorted(names))
    asked = read_generation(given)  # raises for contradictions among the typed options
    if asked.schema is not None:
        typed = {"stop": (), **typed, "schema": asked.schema}
    generation = replace(generation, **typed)
    return replace(kept, generation=generation, **given.explicit_values(*_RUNTIME))


def other_model(given: ConversationFlags, kept: Settings) -> str | None:
    """Return the typed model if it is not the conversation's; otherwise None, as for ``auto``."""
    if not given.is_on_command_line("model") or is_auto(given.model):
        return None
    return None if given.model == kept.model else given.model


def load_engine_for(settings: Settings, on_progress: OnProgress) -> Engine:
    """Load the engine of a conversation. Raises as ``EngineSpec.load`` does."""
    return settings.spec.load(cache=open_feature_cache(settings.engine), on_progress=on_progress)


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
            attachments = conversation.attach(
                sources, sampling=read_sampling(given), on_progress=on_progress
            )
            if given.subtitles is not None:
                text, heard = subtitles_for_attachment(
                    attachments[0], given.subtitles, reader=settings.reader
                )
                conversation.set_subtitles(attachments[0], text, notices=heard)
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
            attachment = Attachment(number, source, batch, prepared.sampling, turn=0)
            journal.save_attachment(
                attachment if several else replace(attachment, subtitles=subtitles)
            )
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
