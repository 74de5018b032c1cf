"""Groups whose subcommands are imported when they run or print their help; one is the default."""

from collections.abc import Mapping
from importlib import import_module
from typing import ClassVar

import click

from smolvideo.cli.flags import PlainGroup

_OF_THE_GROUP = ("--help", "-h", "--debug")


class LazyGroup(PlainGroup):
    """Lazy group; without the name of a subcommand it is ``default``.

    ``subcommands`` maps a name to the import path of the command and its line in the help.
    """

    subcommands: ClassVar[Mapping[str, tuple[str, str]]]
    default: ClassVar[str]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.subcommands:
            return None
        module, name = self.subcommands[cmd_name][0].split(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in _OF_THE_GROUP:
            args = self._with_name_first(
                ctx, args
            )  # options stand before the name, or there is none
        return super().parse_args(ctx, args)

    def _with_name_first(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the name of a subcommand before the options that precede it; without one add that of
        the default, whose options say which have a value."""
        default = self.get_command(ctx, self.default)
        assert default is not None
        with_value = {
            name
            for option in default.params
            if isinstance(option, click.Option) and not option.is_flag and not option.count
            for name in option.opts
        }
        at = 0
        while at < len(args) and args[at].startswith("-") and args[at] != "--":
            at += 2 if args[at] in with_value else 1
        if at < len(args) and args[at] in self.subcommands:
            return [args[at], *args[:at], *args[at + 1 :]]
        return [self.default, *args]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.subcommands:
            args = [self.default, *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.subcommands.items()])
