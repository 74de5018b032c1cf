"""``smolvideo models``: list, describe and download checkpoints."""

from dataclasses import asdict, dataclass
from typing import Any

import click

from smolvideo.cli.flags import is_typed
from smolvideo.cli.main import debug_option
from smolvideo.cli.shell_completion import complete_models
from smolvideo.engines import GenerationOptions
from smolvideo.errors import ModelError, UsageError
from smolvideo.frames import FramePlan, VideoMetadata
from smolvideo.models import (
    MODELS,
    Checkpoint,
    LocalCheckpoint,
    ModelSpec,
    checkpoint_size_bytes,
    list_local,
    lookup_model,
    open_checkpoint,
    pull,
)
from smolvideo.prompt import PLACEHOLDER_QUESTION, Message, count_tokens, max_frames_that_fit
from smolvideo.records import json_line
from smolvideo.show.console import Output, open_screen
from smolvideo.show.format import format_bytes
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tables import show_key_values, show_table

_WORDS = 100
"""Estimated tokens of a question with its chat template, if no tokenizer is available."""
_MAX_FRAMES_TRIED = 2_000

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON instead of a table.", default=False
)
_offline_option = click.option("--offline", is_flag=True, help="Touch no network at all.")
_revision_option = click.option("--revision", metavar="REV", help="Revision of a hub model.")


@click.group(invoke_without_command=True)
@_json_option
@debug_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List, describe and download models.

    Without a command: the list.
    """
    if ctx.invoked_subcommand is None:
        _list(as_json)
    elif is_typed(ctx, "as_json"):
        command = f"smolvideo models {ctx.invoked_subcommand}"
        raise UsageError(
            "`--json` stands behind the name of the command", hint=f"`{command} --json`"
        )


@models.command("list")
@_json_option
@debug_option
def list_models(as_json: bool) -> None:
    """List the models with a name, and others on this machine."""
    _list(as_json)


@models.command("info")
@click.argument("name", shell_complete=complete_models)
@_revision_option
@_offline_option
@_json_option
@debug_option
def show_info(name: str, revision: str | None, offline: bool, as_json: bool) -> None:
    """Describe one model: NAME of the list, a hub id, or a folder.

    What is on this machine describes itself; of what is not, its configuration is fetched, never
    its weights.
    """
    screen = open_screen()
    with StageProgress(screen) as stages:
        checkpoint = open_checkpoint(
            name,
            offline=offline,
            revision=revision,
            weights=False,
            on_progress=stages.on_progress,
        )
    facts = _facts(_with_local_weights(checkpoint, name, revision))
    if as_json:
        screen.write(json_line(facts) + "\n")
        return
    show_key_values(screen, {key.replace("_", " "): _in_words(key, facts[key]) for key in facts})


def _with_local_weights(checkpoint: Checkpoint, name: str, revision: str | None) -> Checkpoint:
    """Return the checkpoint with weights if they are complete on this machine."""
    try:
        return open_checkpoint(name, offline=True, revision=revision)
    except ModelError:
        return checkpoint


@models.command("pull")
@click.argument("name", shell_complete=complete_models)
@_revision_option
@_json_option
@debug_option
def pull_model(name: str, revision: str | None, as_json: bool) -> None:
    """Download a model to this machine: NAME of the list, or a hub id.

    What is there already is not downloaded again, and a download that broke off is resumed.
    """
    screen = open_screen()
    with StageProgress(screen) as stages:
        checkpoint = pull(name, revision=revision, on_progress=stages.on_progress)
    if as_json:
        screen.write(json_line(_facts(checkpoint)) + "\n")
        return
    screen.write_paths([checkpoint.folder])
    size = format_bytes(checkpoint_size_bytes(checkpoint))
    screen.notice(f"`{checkpoint.name}` is on this machine ({size}): `--model {checkpoint.name}`")


@dataclass(frozen=True)
class _Row:
    """One model of the list; unknown values are None."""

    name: str
    note: str
    repo_id: str | None
    parameters: int | None
    download_bytes: int | None
    context_tokens: int | None
    tokens_per_frame: int | None
    most_frames: int | None
    on_this_machine: bool
    problem: str | None = None


def _list(as_json: bool) -> None:
    screen = open_screen()
    rows = _rows()
    if as_json:
        listed = [asdict(row) for row in rows]
        screen.write(json_line(listed) + "\n")
        return
    columns = ["name", "params", "download", "context", "per frame", "frames", "here", "what"]
    show_table(screen, columns, [_cells(row) for row in rows], right=frozenset(range(1, 6)))
    _explain(screen)


def _explain(screen: Output) -> None:
    if screen.is_interactive:
        screen.err.print()
        screen.err.print(
            "per frame: tokens of one frame. frames: how many fit with a short question. "
            "here: on this machine.",
            style="dim",
        )


def _rows() -> list[_Row]:
    local = {checkpoint.repo_id: checkpoint for checkpoint in list_local()}
    known = [_row(spec, local.get(spec.repo_id or "")) for spec in MODELS.values()]
    others = [
        _Row(one.name, "", one.repo_id, None, one.size_bytes, None, None, None, True, one.problem)
        for one in local.values()
        if lookup_model(one.repo_id) is None
    ]
    return known + others


def _row(spec: ModelSpec, local: LocalCheckpoint | None) -> _Row:
    if spec.is_bundled:
        return _bundled_row(spec)
    assert spec.context_tokens is not None
    assert spec.tokens_per_frame is not None
    room = spec.context_tokens - GenerationOptions().max_new_tokens - _WORDS
    return _Row(
        name=spec.name,
        note=spec.note,
        repo_id=spec.repo_id,
        parameters=spec.parameters,
        download_bytes=spec.download_bytes,
        context_tokens=spec.context_tokens,
        tokens_per_frame=spec.tokens_per_frame,
        most_frames=room // spec.tokens_per_frame,
        on_this_machine=local is not None and local.problem is None,
        problem=local.problem if local else None,
    )


def _bundled_row(spec: ModelSpec) -> _Row:
    """Row of the bundled model from its own files, or with their error as ``problem``."""
    try:
        checkpoint = open_checkpoint(spec.name)
    except ModelError as error:
        return _Row(spec.name, spec.note, None, None, None, None, None, None, False, str(error))
    return _Row(
        name=spec.name,
        note=spec.note,
        repo_id=None,
        parameters=checkpoint.weights.parameters if checkpoint.weights else None,
        download_bytes=None,
        context_tokens=checkpoint.context_tokens,
        tokens_per_frame=_tokens_per_frame(checkpoint),
        most_frames=_most_frames(checkpoint),
        on_this_machine=True,
    )


def _cells(row: _Row) -> list[str]:
    here = "broken" if row.problem else "yes" if row.on_this_machine else "no"
    return [
        row.name,
        _parameters(row.parameters),
        format_bytes(row.download_bytes) if row.download_bytes else "",
        f"{row.context_tokens:,}" if row.context_tokens else "",
        str(row.tokens_per_frame or ""),
        str(row.most_frames or ""),
        "bundled" if row.on_this_machine and row.name == "nano" else here,
        row.problem or row.note,
    ]


def _parameters(count: int | None) -> str:
    if count is None:
        return ""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.3g} M"


def _planned(frames: int) -> list[Message]:
    """Return a message with placeholders for ``frames`` frames, one per second."""
    times = tuple(float(second) for second in range(frames))
    video = FramePlan(times, VideoMetadata(640, 360, float(frames)))
    return [Message("user", (video, PLACEHOLDER_QUESTION))]


def _tokens_per_frame(checkpoint: Checkpoint) -> int:
    return count_tokens(_planned(3), checkpoint) - count_tokens(_planned(2), checkpoint)


def _most_frames(checkpoint: Checkpoint) -> int:
    return max_frames_that_fit(
        _planned,
        checkpoint,
        max_new_tokens=GenerationOptions().max_new_tokens,
        max_frames=_MAX_FRAMES_TRIED,
    )


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the metadata of a checkpoint under its JSON keys."""
    spec = lookup_model(checkpoint.name)
    weights = checkpoint.weights
    return {
        "name": checkpoint.name,
        "note": spec.note if spec else "",
        "repo_id": spec.repo_id if spec else None,
        "revision": checkpoint.revision,
        "folder": str(checkpoint.folder.resolve()),
        "layout": checkpoint.layout,
        "parameters": weights.parameters if weights else spec.parameters if spec else None,
        "stored_dtype": checkpoint.stored_dtype,
        "weights_here": weights is not None,
        "size_bytes": checkpoint_size_bytes(checkpoint),
        "download_bytes": spec.download_bytes if spec else None,
        "image_size": checkpoint.image_size,
        "tokens_per_image": checkpoint.tokens_per_image,
        "context_tokens": checkpoint.context_tokens,
        "tokens_per_frame": _tokens_per_frame(checkpoint),
        "most_frames": _most_frames(checkpoint),
    }


def _in_words(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "parameters":
        return _parameters(value)
    if key.endswith("_bytes"):
        return format_bytes(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
