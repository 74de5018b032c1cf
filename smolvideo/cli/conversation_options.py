"""Options of conversations, and merging them into the settings of a saved one."""

from dataclasses import fields, replace

from smolvideo.cli.flags import Flags, flag, to_flag
from smolvideo.cli.options import (
    EngineFlags,
    GenerationFlags,
    GeometryFlags,
    PromptFlags,
    SamplingFlags,
    read_generation,
    read_sampling,
)
from smolvideo.conversation import Settings
from smolvideo.cost.choose import AUTO
from smolvideo.engines import EngineSpec, GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.prompt import PromptOptions

_ONLY_FOR_SOURCES = ("max_frames", "fps", "start", "end", "strategy", "subtitles")
_NOT_WHILE_GOING_ON = ("geometry", "layout", "split_images", "reader")
_RUNTIME = ("engine", "device", "dtype", "quantize", "offline")


class ContinueFlags(Flags, section="Conversation"):
    """Resume the last conversation."""

    goes_on: bool = flag(
        "--continue",
        "-c",
        excludes=("no_keep", "session"),
        help="Go on with the last conversation; a SOURCE is one more to look at.",
    )


class KeepFlags(Flags, section="Conversation"):
    """Whether the conversation is saved."""

    no_keep: bool = flag(help="Keep nothing of it on this machine to go on with.")


class ConversationFlags(EngineFlags, SamplingFlags, GeometryFlags, PromptFlags, GenerationFlags):
    """All that the settings of a conversation are made of."""


def read_prompt_options(given: ConversationFlags) -> PromptOptions:
    """Read the prompt options."""
    return PromptOptions(
        layout=given.layout, geometry=given.geometry, split_images=given.split_images
    )


def read_settings(given: ConversationFlags) -> Settings:
    """Read the settings of a new conversation. Raises UsageError as the option classes do."""
    return Settings(
        model=given.model,
        revision=given.revision,
        engine=given.engine,
        device=given.device,
        dtype=given.dtype,
        quantize=given.quantize,
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
    """Merge options typed for this run into the saved settings ``kept``.

    The model is not merged: ``Conversation.switch_model`` changes it. Raises UsageError for options
    that have no effect on a resumed conversation.
    """
    for name in (*_NOT_WHILE_GOING_ON, *(() if has_sources else _ONLY_FOR_SOURCES)):
        if given.is_on_command_line(name):
            more = "" if name in _NOT_WHILE_GOING_ON else " without a new source"
            raise UsageError(f"`{to_flag(name)}` has no effect with `--continue`{more}")
    generation = kept.generation
    typed = given.explicit_values(*(part.name for part in fields(GenerationOptions)))
    if typed:
        read_generation(given)  # raises for contradictions among the typed options
        generation = replace(generation, **typed)
    return replace(kept, generation=generation, **given.explicit_values(*_RUNTIME))


def other_model(given: ConversationFlags, kept: Settings) -> str | None:
    """Return the typed model if it is not the conversation's; otherwise None, as for ``auto``."""
    typed = given.is_on_command_line("model") and given.model not in (kept.model, AUTO)
    return given.model if typed else None
