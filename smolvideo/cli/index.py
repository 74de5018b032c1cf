"""``smolvideo index``: an index over videos for ``find``; its status, rebuilding and compaction.

The module of a subcommand is imported lazily, when it runs or prints its help.
"""

from importlib import import_module

import click

from smolvideo.cli.flags import PlainGroup
from smolvideo.cli.main import debug_option

COMMANDS = {
    "add": (
        "smolvideo.cli.index_add:add",
        "Index videos: files, folders, URLs; the word may be left out.",
    ),
    "status": ("smolvideo.cli.index_file:status", "Show what the index holds."),
    "rebuild": ("smolvideo.cli.index_add:rebuild", "Index known videos again, from nothing."),
    "vacuum": ("smolvideo.cli.index_file:vacuum", "Drop what is gone, and shrink the file."),
}
"""Name → import path of the command, and its line in the help."""


class IndexCommands(PlainGroup):
    """Lazy group of subcommands; without the name of one it is ``add``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--debug"):
            args = ["add", *args]  # an option of it stands first
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            args = ["add", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


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
