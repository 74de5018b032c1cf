"""Options of conversations, and merging them into the settings of a saved one."""

from dataclasses import fields, replace
from typing import Any

import click

from smolvideo.cli.options import is_explicit, is_on_command_line, read_generation
from smolvideo.cli.params import SectionOption
from smolvideo.conversation import Settings
from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError

_ONLY_FOR_SOURCES = ("max_frames", "fps", "start", "end", "strategy", "subtitles")
_NOT_WHILE_GOING_ON = ("geometry", "layout", "split_images", "reader")


def continue_option(command: Any) -> Any:
    """``--continue``: resume the last conversation."""
    return click.option(
        "--continue",
        "-c",
        "goes_on",
        cls=SectionOption,
        section="Conversation",
        is_flag=True,
        default=False,
        help="Go on with the last conversation; a SOURCE is one more to look at.",
    )(command)


def no_save_option(command: Any) -> Any:
    """``--no-keep``: do not save the conversation."""
    return click.option(
        "--no-keep",
        cls=SectionOption,
        section="Conversation",
        is_flag=True,
        default=False,
        help="Keep nothing of it on this machine to go on with.",
    )(command)


def read_settings(ctx: click.Context, **given: Any) -> Settings:
    """Read the settings of a new conversation; ``given`` are option groups read already."""
    names = ("model", "revision", "engine", "device", "dtype", "quantize", "offline", "reader")
    return Settings(**{name: ctx.params[name] for name in names}, **given)


def merge_settings(ctx: click.Context, kept: Settings, *, has_sources: bool) -> Settings:
    """Merge options typed for this run into the saved settings ``kept``.

    The model is not merged: ``Conversation.switch_model`` changes it. Raises UsageError for options
    that have no effect on a resumed conversation.
    """
    for name in (*_NOT_WHILE_GOING_ON, *(() if has_sources else _ONLY_FOR_SOURCES)):
        if name in ctx.params and is_on_command_line(ctx, name):
            flag = "--" + name.replace("_", "-")
            more = "" if name in _NOT_WHILE_GOING_ON else " without a new source"
            raise UsageError(f"`{flag}` has no effect with `--continue`{more}")
    generation = kept.generation
    typed = {
        field.name: ctx.params[field.name]
        for field in fields(GenerationOptions)
        if is_explicit(ctx, field.name)
    }
    if typed:
        read_generation(ctx)  # raises for contradictions among the typed options
        generation = replace(generation, **typed)
    places = {
        name: ctx.params[name]
        for name in ("engine", "device", "dtype", "quantize", "offline")
        if is_explicit(ctx, name)
    }
    return replace(kept, generation=generation, **places)


def other_model(ctx: click.Context, kept: Settings) -> str | None:
    """Return the typed model if it is not the conversation's; otherwise None."""
    if not is_on_command_line(ctx, "model") or ctx.params["model"] == kept.model:
        return None
    return str(ctx.params["model"])
