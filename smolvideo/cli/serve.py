"""``smolvideo serve``: an OpenAI-compatible server for questions about video."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import click

from smolvideo.cli.cache import CacheFlags, open_feature_cache
from smolvideo.cli.flags import (
    Flags,
    FolderPath,
    IntegerType,
    SectionCommand,
    SizeType,
    flag,
    takes,
)
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import EngineFlags
from smolvideo.cli.options import GeometryFlags, PromptFlags, SamplingFlags, read_sampling
from smolvideo.engines import Engine
from smolvideo.errors import ModelError
from smolvideo.progress import OnProgress
from smolvideo.prompt import PromptOptions
from smolvideo.readers import prestart_process
from smolvideo.serve import ServerOptions
from smolvideo.show.console import open_screen
from smolvideo.show.progress_bar import StageProgress

_PACKAGES = ("starlette", "uvicorn", "prometheus_client")


class AddressFlags(Flags, section="Server"):
    """Where the server listens, and who may call it."""

    host: str = flag(
        default_from=ServerOptions,
        metavar="ADDRESS",
        help="Address to listen at; 0.0.0.0 is every network of this machine, and needs --api-key.",
    )
    port: int = flag(
        default_from=ServerOptions,
        type=IntegerType(min=0, max=65535),
        metavar="N",
        help="Port; 0 is a free one.",
    )
    api_key: str | None = flag(
        envvar="SMOLVIDEO_API_KEY",
        show_envvar=True,
        metavar="KEY",
        show_default="none",
        help="Key that every request must have as `Authorization: Bearer KEY`.",
    )
    allow_host: tuple[str, ...] = flag(
        multiple=True,
        metavar="NAME",
        show_default="names of this machine",
        help="Another host name by which clients call the server. Repeatable.",
    )
    allow_origin: tuple[str, ...] = flag(
        multiple=True,
        metavar="ORIGIN",
        show_default="none",
        help="Web pages that may call the server: https://chat.example.org. Repeatable.",
    )


class RequestFlags(Flags, section="Requests"):
    """What a request may do."""

    allow_domain: tuple[str, ...] = flag(
        multiple=True,
        metavar="HOST",
        show_default="none",
        help="Host that videos may be fetched from: media.example.org, *.example.org, or * for"
        " every public one. Repeatable.",
    )
    allow_folder: tuple[Path, ...] = flag(
        multiple=True,
        type=FolderPath(),
        metavar="DIR",
        show_default="none",
        help="Folder whose files requests may name (file:///…). Repeatable.",
    )
    max_body: int = flag(
        type=SizeType(),
        default=ServerOptions.max_body_bytes,
        show_default="64M",
        help="Refuse larger requests. A video in one takes 4/3 of its size.",
    )
    max_waiting: int = flag(
        default_from=ServerOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Requests that may wait for the model; more get a 503.",
    )
    max_sessions: int = flag(
        default_from=ServerOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Videos whose computed frames are kept in memory for further questions.",
    )
    max_new_tokens: int = flag(
        default_from=ServerOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Maximum length of an answer in tokens if the request has none.",
    )


class ServeFlags(
    AddressFlags,
    RequestFlags,
    EngineFlags,
    CacheFlags,
    SamplingFlags,
    GeometryFlags,
    PromptFlags,
):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(ServeFlags, subtitles=None)
def serve(given: ServeFlags) -> None:
    """Serve a model to OpenAI's clients, with video.

    /v1/chat/completions takes videos and images as vLLM, llama.cpp, Frigate and Home Assistant
    send them, /api/chat as Ollama does. / is a web page to ask with. --max-frames is the most that
    a request may use. Ctrl-C stops it.

    \b
    smolvideo serve --model smolvlm2-500m
    SMOLVIDEO_API_KEY=… smolvideo serve --host 0.0.0.0
    """
    check_installed()
    from smolvideo.serve.listen import VideoServer

    options = read_server_options(given)
    screen = open_screen()
    with StageProgress(screen) as stages:
        spec = choose_engine(
            given, screen, drawn=lambda: False, frames=given.max_frames, stages=stages
        )
        checkpoint = spec.checkpoint(weights=True, on_progress=stages.on_progress)
    cache = open_feature_cache(given.engine, no_cache=given.no_cache, on_note=screen.notice)
    prestart_process()

    def load(on_progress: OnProgress) -> Engine:
        return spec.load(cache=cache, on_progress=on_progress)

    def say_ready() -> None:
        screen.notice(f"`{checkpoint.name}` is ready")

    server = VideoServer(options, checkpoint, load, on_notice=screen.notice, on_ready=say_ready)
    screen.notice(f"{server.url} is a web page, {server.url}/v1 the base URL for OpenAI's clients")
    server.run()


def check_installed() -> None:
    """Raise ModelError where the packages of the extra are missing."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"the server needs packages that are not installed: {', '.join(missing)}",
            hint="pip install 'smolvideo[serve]'",
        )


def read_server_options(given: ServeFlags) -> ServerOptions:
    """Read the options of the server. Raises UsageError as ``ServerOptions`` does."""
    return ServerOptions(
        host=given.host,
        port=given.port,
        api_key=given.api_key,
        allowed_hosts=given.allow_host,
        allowed_origins=given.allow_origin,
        allowed_domains=given.allow_domain,
        allowed_folders=given.allow_folder,
        # A ceiling for all requests: what does not fit the context is reduced.
        sampling=replace(read_sampling(given), reduce_to_fit=True),
        prompt_options=PromptOptions(
            layout=given.layout, geometry=given.geometry, split_images=given.split_images
        ),
        reader=given.reader,
        max_new_tokens=given.max_new_tokens,
        max_body_bytes=given.max_body,
        max_waiting=given.max_waiting,
        max_sessions=given.max_sessions,
    )
