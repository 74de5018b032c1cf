"""Options of the model, its engine and the server that may answer in its place."""

from dataclasses import replace
from pathlib import Path

import click

from smolvideo.cli.flags import FilePath, Flags, flag
from smolvideo.cli.shell_completion import complete_models
from smolvideo.engines import ARITHMETICS, ENGINES, QUANTIZATIONS, REMOTE_ENGINE, EngineSpec
from smolvideo.engines.openai_client import check_base_url, is_loopback
from smolvideo.errors import UsageError
from smolvideo.models.adapter import base_of_adapter
from smolvideo.models.registry import AUTO, is_auto
from smolvideo.source import DownloadOptions


class ModelFlags(Flags, section="Model"):
    """Options that choose the checkpoint."""

    model: str = flag(
        "-m",
        default=AUTO,
        envvar="SMOLVIDEO_MODEL",
        show_envvar=True,
        metavar="NAME",
        shell_complete=complete_models,
        help="A name of `smolvideo models`, a hub id or a folder. auto: the best model on "
        "this machine that fits its memory; for synthetic scenes nano, which is "
        "bundled and was not trained on real footage.",
    )
    revision: str | None = flag(metavar="REV", show_default="main", help="Revision of a hub model.")
    offline: bool = flag(default_from=DownloadOptions, help="Use no network.")
    yes: bool = flag(
        help="Download the proposed model without asking if auto finds none on this machine."
    )


class EngineFlags(ModelFlags, section="Model"):
    """Options of engine, device, dtype and quantization, after those of the checkpoint."""

    engine: str = flag(
        type=click.Choice(["auto", *ENGINES, REMOTE_ENGINE]),
        default="auto",
        help="Implementation that runs the model; openai is a server, see --server.",
    )
    device: str = flag(
        default="auto",
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, mps; auto is the fastest available.",
    )
    dtype: str = flag(
        default="auto",
        metavar="DTYPE",
        help="bfloat16, float16 or float32; auto is the fastest on the device.",
    )
    adapter: Path | None = flag(
        type=FilePath(),
        metavar="DIR",
        show_default="none",
        help="LoRA adapter of `smolvideo tune` or peft, merged into the weights while they are "
        "loaded. --model auto is then the model that it was trained on.",
    )
    quantize: str = flag(
        "--quantize",
        "--quantise",
        type=click.Choice(QUANTIZATIONS),
        default=QUANTIZATIONS[0],
        help="int8: most weights in half the memory of bfloat16. int4: most weights of the "
        "decoder's layers as 4-bit integers, the others as int8: two fifths of bfloat16, larger "
        "errors. For the engine native on a CPU.",
    )
    arithmetic: str = flag(
        type=click.Choice(ARITHMETICS),
        default=ARITHMETICS[0],
        help="int8: frames and prompts are multiplied in int8, faster on CPUs without bfloat16; "
        "float: they are not; auto: int8 where --dtype is auto and the model loses little, which "
        "its first frames show.",
    )


class RemoteFlags(Flags, section="Model"):
    """The server that answers in place of an engine."""

    server: str | None = flag(
        "--server",
        "--base-url",
        envvar="SMOLVIDEO_SERVER",
        show_envvar=True,
        metavar="URL",
        show_default="none",
        help="Let an OpenAI-compatible server answer, with --engine openai: frames are chosen here"
        " and sent there. Its key is in SMOLVIDEO_API_KEY.",
    )


def read_engine_spec(given: ModelFlags) -> EngineSpec:
    """Read the model and, for commands that have them, the engine options.

    Raises UsageError for a revision of no named model; that of the configuration file is left out.
    """
    server = given.server if isinstance(given, RemoteFlags) else None
    if isinstance(given, EngineFlags) and given.engine == REMOTE_ENGINE and server is None:
        hint = "add `--server URL`" if isinstance(given, RemoteFlags) else "this command has none"
        raise UsageError("the engine `openai` is a server", hint=hint)
    if server is not None:
        assert isinstance(given, EngineFlags)
        return _remote_spec(given, server)
    adapter = given.adapter if isinstance(given, EngineFlags) else None
    if not is_auto(given.model):
        spec = EngineSpec(given.model, given.revision, given.offline)
    elif given.is_explicit("revision"):
        raise UsageError("`--revision` is of a model, and none is named", hint="add `--model NAME`")
    elif adapter is not None:
        spec = EngineSpec(base_of_adapter(adapter), None, given.offline)
    else:
        spec = EngineSpec(AUTO, None, given.offline)
    if not isinstance(given, EngineFlags):
        return spec
    return replace(
        spec,
        engine=given.engine,
        device=given.device,
        dtype=given.dtype,
        quantize=given.quantize,
        arithmetic=given.arithmetic,
        adapter=None if adapter is None else str(adapter.expanduser().absolute()),
    )


_LOCAL_OPTIONS = ("revision", "adapter", "device", "dtype", "quantize", "arithmetic")


def _remote_spec(given: EngineFlags, server: str) -> EngineSpec:
    """Return the engine of a server. Raises UsageError for options of engines on this machine."""
    if given.engine not in ("auto", REMOTE_ENGINE):
        raise UsageError(f"`--engine {given.engine}` and `--server` contradict each other")
    if useless := given.first_explicit(*_LOCAL_OPTIONS):
        raise UsageError(f"`{useless}` is for a model on this machine, and `--server` is another")
    base_url = check_base_url(server)
    if given.offline and not is_loopback(base_url):
        raise UsageError("`--offline` uses no network, and `--server` is one")
    model = AUTO if is_auto(given.model) else given.model
    return EngineSpec(model, engine=REMOTE_ENGINE, base_url=base_url)
