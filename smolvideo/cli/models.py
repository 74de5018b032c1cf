"""``smolvideo models``: list, describe, download, delete and choose checkpoints."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from smolvideo.cli.cache import open_feature_cache
from smolvideo.cli.flags import PlainGroup, is_typed
from smolvideo.cli.main import debug_option
from smolvideo.cli.models_list import (
    format_parameters,
    most_frames,
    show_models,
    tokens_per_frame,
)
from smolvideo.cli.shell_completion import complete_models
from smolvideo.engines import compile_kernels
from smolvideo.errors import EXIT_SOME_FAILED, ModelError, UsageError
from smolvideo.formatting import format_bytes
from smolvideo.models import (
    Checkpoint,
    check_room_for,
    checkpoint_size_bytes,
    is_offline,
    list_local,
    lookup_model,
    open_checkpoint,
    plan_removal,
    pull,
    unknown_model,
)
from smolvideo.models.registry import AUTO, is_auto
from smolvideo.records import json_line
from smolvideo.sanitize import display_path, escape_controls
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tables import show_key_values

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON instead of a table.", default=False
)
_measure_option = click.option(
    "--measure",
    is_flag=True,
    help="Measure this machine if it was not measured, also in a pipe.",
)
_offline_option = click.option("--offline", is_flag=True, help="Touch no network at all.")
_revision_option = click.option("--revision", metavar="REV", help="Revision of a hub model.")
_names_argument = click.argument(
    "names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_models
)


@click.group(cls=PlainGroup, invoke_without_command=True)
@_json_option
@_measure_option
@debug_option
@click.pass_context
def models(ctx: click.Context, as_json: bool, measure: bool) -> None:
    """List, download, delete and choose models.

    Without a command: the list, with the peak memory of each model on this machine, and the
    predicted seconds to the first word about 50 frames.
    """
    if ctx.invoked_subcommand is None:
        show_models(as_json=as_json, measure=measure)
        return
    for parameter, flag in (("as_json", "--json"), ("measure", "--measure")):
        if is_typed(ctx, parameter):
            command = f"smolvideo models {ctx.invoked_subcommand}"
            raise UsageError(
                f"`{flag}` stands behind the name of the command", hint=f"`{command} {flag}`"
            )


@models.command("list")
@_json_option
@_measure_option
@debug_option
def list_models(as_json: bool, measure: bool) -> None:
    """List the models with a short name, and others on this machine."""
    show_models(as_json=as_json, measure=measure)


@models.command("info")
@click.argument("name", shell_complete=complete_models)
@_revision_option
@_offline_option
@_json_option
@debug_option
def show_info(name: str, revision: str | None, offline: bool, as_json: bool) -> None:
    """Describe one model: NAME of the list, a hub id, or a folder.

    A model that is not on this machine has its configuration downloaded, but no weights.
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
    local = _with_local_weights(checkpoint, name, revision)
    facts = _facts(local) | {"arithmetic": _arithmetic(local)}
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
@_names_argument
@_revision_option
@click.option(
    "--dtype",
    type=click.Choice(["bfloat16"]),
    help="Store a copy of float32 weights rounded to bfloat16 and use it: half the disk "
    "space, half the time to load.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="With `--dtype`: delete the published files after the copy was compared with them.",
)
@click.option("--offline", is_flag=True, help="Refused: a download needs the network.")
@_json_option
@debug_option
@click.pass_context
def pull_models(
    ctx: click.Context,
    names: tuple[str, ...],
    revision: str | None,
    dtype: str | None,
    replace: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Download models to this machine: each NAME one of the list, or a hub id.

    Cached files are not downloaded again, and an interrupted download is resumed. The free disk
    space is checked first. Kernels that answers on this processor need are compiled, once.
    HF_HOME, HF_ENDPOINT, HF_TOKEN and the proxies of the environment (HTTPS_PROXY, NO_PROXY) are
    respected.
    """
    _check_pull(names, revision, dtype, replace, offline)
    screen = open_screen()
    failed = 0
    try:
        with StageProgress(screen) as stages:
            if len(names) > 1:
                check_room_for(names, dtype=dtype, on_progress=stages.on_progress)
            for name in dict.fromkeys(names):
                try:
                    checkpoint = pull(
                        name,
                        revision=revision,
                        dtype=dtype,
                        replace=replace,
                        on_progress=stages.on_progress,
                    )
                except ModelError as error:
                    if len(names) == 1:
                        raise
                    failed += 1
                    with stages.paused():
                        _show_failure(screen, error)
                else:
                    _compile(screen, checkpoint, stages)
                    with stages.paused():
                        _show_pulled(screen, checkpoint, dtype, replace, as_json)
    except KeyboardInterrupt:
        screen.notice("what was downloaded is kept: the same command resumes it")
        raise
    ctx.exit(EXIT_SOME_FAILED if failed else 0)


def _check_pull(
    names: Sequence[str], revision: str | None, dtype: str | None, replace: bool, offline: bool
) -> None:
    """Raise UsageError for options that do not go together, or that forbid a download."""
    if offline or is_offline():
        variables = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        why = "`--offline`" if offline else next(name for name in variables if os.environ.get(name))
        raise UsageError(
            f"{why} forbids the network, and `models pull` downloads",
            hint=f"without {why} it downloads; `smolvideo models` lists what is here already",
        )
    if revision is not None and len(names) > 1:
        raise UsageError("`--revision` is of one model", hint="pull them one by one")
    if replace and dtype is None:
        raise UsageError(
            "`--replace` is for `--dtype bfloat16`", hint="`--dtype bfloat16 --replace`"
        )


def _compile(screen: Output, checkpoint: Checkpoint, stages: StageProgress) -> None:
    """Compile what answers of ``checkpoint`` need. An error is a notice: the download succeeded."""
    try:
        compile_kernels(checkpoint, on_progress=stages.on_progress)
    except ModelError as error:
        screen.notice(f"{error}; {error.hint}")


def _show_failure(screen: Output, error: ModelError) -> None:
    for label, style, text in (("Error: ", "bold red", str(error)), ("hint: ", "cyan", error.hint)):
        if text:
            line = Text.assemble((label, style), escape_controls(text))
            screen.err.print(line, soft_wrap=True)


def _show_pulled(
    screen: Output, checkpoint: Checkpoint, dtype: str | None, replace: bool, as_json: bool
) -> None:
    name = checkpoint.name
    if as_json:
        screen.write(json_line(_facts(checkpoint)) + "\n")
        return
    screen.write_paths([checkpoint.folder])
    size = format_bytes(checkpoint_size_bytes(checkpoint))
    screen.notice(f"`{name}` is on this machine ({size}): `--model {name}`")
    local = next((one for one in list_local() if one.name == name), None)
    has_copy = local is not None and local.copy_bytes > 0
    if dtype and not has_copy:
        screen.notice(f"`{name}` is published as {checkpoint.stored_dtype}: no copy is needed")
    elif dtype and not replace and local and local.size_bytes > local.copy_bytes:
        other = format_bytes(local.size_bytes - local.copy_bytes)
        screen.notice(
            f"the copy is used; the published files are kept, too ({other}): `--replace` deletes "
            "them"
        )
    elif not dtype and has_copy:
        screen.notice(
            f"`{name}` has a bfloat16 copy, which is used: "
            f"`smolvideo models rm {name} --dtype bfloat16` deletes it"
        )


@models.command("rm")
@_names_argument
@_revision_option
@click.option("--dtype", type=click.Choice(["bfloat16"]), help="Only the bfloat16 copy.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@debug_option
def remove_models(
    names: tuple[str, ...], revision: str | None, dtype: str | None, yes: bool
) -> None:
    """Delete models from this machine, and say how much that frees.

    All revisions of each NAME, unless `--revision` names one; files that another revision shares
    are kept. The hub's cache is shared: other programs lose the model, too.
    """
    screen = open_screen()
    removals = [
        plan_removal(name, revision=revision, originals=dtype is None)
        for name in dict.fromkeys(names)
    ]
    if not yes:
        if not (os.isatty(0) and screen.err.is_terminal):
            raise UsageError(
                "models are deleted after a question, and there is no terminal to ask",
                hint="`--yes` deletes without a question",
            )
        for one in removals:
            parts = " and ".join(one.what)
            screen.err.print(
                f"{one.name}: {parts}, {format_bytes(one.freed_bytes)}", soft_wrap=True
            )
        click.confirm("Delete?", abort=True, err=True)
    for one in removals:
        one.execute()
        screen.write(f"{one.name}: {format_bytes(one.freed_bytes)} freed\n")
    here = {local.name for local in list_local() if local.problem is None}
    default = _default_model()
    if default in {one.name for one in removals} - here:
        screen.notice(f"`{default}` is still the default: `smolvideo models use NAME` sets another")


def _default_model() -> str | None:
    """Return the model that the configuration file names for all commands."""
    from smolvideo.cli.config_file import ConfigFile

    value = ConfigFile.read().content.get("model")
    spec = lookup_model(value) if isinstance(value, str) else None
    return spec.name if spec else value if isinstance(value, str) else None


@models.command("use")
@click.argument("name", shell_complete=complete_models)
@debug_option
def use_model(name: str) -> None:
    """Make a model the default of all commands.

    NAME is one of the list, a hub id, a folder, or auto. It is written to the configuration file;
    `--model` and SMOLVIDEO_MODEL override it.
    """
    from smolvideo.cli.config import save_setting

    screen = open_screen()
    value, size = _checked_model(name)
    path = save_setting("model", [value])
    screen.notice(f"`{value}` is the default now, in {display_path(path)}")
    if size is not None:
        download = f" ({format_bytes(size)})" if size else ""
        screen.notice(
            f"`{value}` is not on this machine yet{download}: `smolvideo models pull {value}`"
        )
    other = os.environ.get("SMOLVIDEO_MODEL")
    if other and other != value:
        screen.notice(f"SMOLVIDEO_MODEL is `{other}` in this shell, and comes before the file")


def _checked_model(name: str) -> tuple[str, int | None]:
    """Return what to write for a model, and the bytes to download if it is not here (0 if they are
    unknown), else None. Raises ModelError for what is no model."""
    if is_auto(name):
        return AUTO, None
    spec = lookup_model(name)
    if spec is not None:
        here = spec.is_bundled or any(
            one.name == spec.name and one.problem is None for one in list_local()
        )
        return spec.name, None if here else spec.download_bytes
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        open_checkpoint(folder)
        return str(folder.absolute()), None
    if name.startswith((".", "~", os.sep)) or name.count("/") != 1:
        raise unknown_model(name)
    here = any(one.repo_id == name and one.problem is None for one in list_local())
    return name, None if here else 0


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
        "tokens_per_frame": tokens_per_frame(checkpoint),
        "most_frames": most_frames(checkpoint),
    }


def _arithmetic(checkpoint: Checkpoint) -> str | None:
    """Describe what `--arithmetic auto` takes on this CPU; None without weights."""
    from smolvideo.engines.arithmetic import describe_arithmetic

    if checkpoint.weights is None:
        return None
    return describe_arithmetic(checkpoint, open_feature_cache("native"))


def _in_words(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "parameters":
        return format_parameters(value)
    if key.endswith("_bytes"):
        return format_bytes(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
