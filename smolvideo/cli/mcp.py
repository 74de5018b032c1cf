"""``smolvideo mcp``: tools for agents over the Model Context Protocol, on stdin and stdout."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import click

from smolvideo.cli.cache import CacheFlags, open_feature_cache
from smolvideo.cli.flags import Flags, FolderPath, SectionCommand, flag, takes
from smolvideo.cli.index_options import IndexFileFlags
from smolvideo.cli.model_choice import choose_engine
from smolvideo.cli.model_options import EngineFlags, RemoteFlags
from smolvideo.cli.options import GeometryFlags, SamplingFlags, read_sampling
from smolvideo.engines import Engine
from smolvideo.errors import ModelError
from smolvideo.progress import OnProgress
from smolvideo.prompt import PromptOptions
from smolvideo.show.console import open_screen


class FolderFlags(Flags, section="Files"):
    """What the tools may read."""

    allow_folder: tuple[Path, ...] = flag(
        multiple=True,
        type=FolderPath(),
        metavar="DIR",
        show_default="the current folder",
        help="Folder whose videos agents may ask about, with those below it. Repeatable.",
    )


class McpFlags(
    FolderFlags, IndexFileFlags, RemoteFlags, EngineFlags, CacheFlags, SamplingFlags, GeometryFlags
):
    """All options of the command."""


@click.command(cls=SectionCommand)
@takes(McpFlags)
def mcp(given: McpFlags) -> None:
    """Offer tools to agents: questions about videos.

    Speaks the Model Context Protocol on stdin and stdout, for programs such as Claude Desktop,
    Cursor or VS Code. The tools ask_video, find_in_videos and video_info answer with text and
    times, and read files of the allowed folders only.

    \b
    smolvideo mcp --model smolvlm2-500m --allow-folder ~/Videos
    """
    if importlib.util.find_spec("mcp") is None:
        raise ModelError("the package mcp is not installed", hint="pip install 'smolvideo[mcp]'")
    from smolvideo.agent_tools import VideoTools
    from smolvideo.agent_tools.mcp_server import make_server

    screen = open_screen()
    spec = choose_engine(given, screen, drawn=lambda: False, frames=given.max_frames, asks=False)
    spec.checkpoint()  # a model that is missing is an error now, not at the first question
    cache = open_feature_cache(spec.engine, no_cache=given.no_cache, on_note=screen.notice)

    def load(on_progress: OnProgress) -> Engine:
        return spec.load(cache=cache, on_progress=on_progress)

    tools = VideoTools(
        load,
        given.allow_folder or (Path.cwd(),),
        sampling=replace(read_sampling(given), reduce_to_fit=True),
        prompt_options=PromptOptions(geometry=given.geometry),
        reader=given.reader,
        index=given.index,
    )
    try:
        make_server(tools).run()
    finally:
        tools.close()
