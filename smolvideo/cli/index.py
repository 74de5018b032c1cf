"""``smolvideo index``: an index over videos for ``find``; its status, rebuilding and compaction.

The module of a subcommand is imported lazily, when it runs or prints its help.
"""

from typing import ClassVar

import click

from smolvideo.cli.lazy_group import LazyGroup
from smolvideo.cli.main import debug_option


class IndexCommands(LazyGroup):
    """Subcommands of ``index``; without the name of one it is ``add``."""

    subcommands: ClassVar = {
        "add": (
            "smolvideo.cli.index_add:add",
            "Index videos: files, folders, URLs; the word may be left out.",
        ),
        "status": ("smolvideo.cli.index_file:status", "Show what the index holds."),
        "rebuild": ("smolvideo.cli.index_add:rebuild", "Index known videos again, from nothing."),
        "vacuum": ("smolvideo.cli.index_file:vacuum", "Drop what is gone, and shrink the file."),
    }
    default = "add"


@click.group("index", cls=IndexCommands)
@debug_option
def index() -> None:
    """Index videos for `find`.

    Each video is cut into short windows; the index holds a note of the model about each, the text
    on screen, and subtitles beside the video or in it. The same command adds what is new or has
    changed, continues a run that was killed, and removes files that are gone. A file named like a
    command is ./status.

    \b
    smolvideo index ~/Videos
    smolvideo index --watch recordings/
    smolvideo index status
    """
