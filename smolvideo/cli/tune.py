"""``smolvideo tune``: fine-tune a checkpoint on one's own clips; ``tune align``: by preferences.

The module of a subcommand is imported lazily, when it runs or prints its help.
"""

from importlib import import_module

import click

from smolvideo.cli.flags import PlainGroup
from smolvideo.cli.main import debug_option

COMMANDS = {
    "clips": (
        "smolvideo.cli.tune_clips:clips",
        "Fine-tune on questions and answers; the word may be left out.",
    ),
    "align": (
        "smolvideo.cli.tune_align:align",
        "Align by pairs of a better and a worse answer (DPO).",
    ),
}
"""Name → import path of the command, and its line in the help."""


class TuneCommands(PlainGroup):
    """Lazy group of subcommands; without the name of one it is ``clips``."""

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
            args = ["clips", *args]  # an option of it stands first
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            args = ["clips", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group("tune", cls=TuneCommands)
@debug_option
def tune() -> None:
    """Fine-tune a model on your own clips.

    What comes out is a LoRA adapter of some megabytes, for `--adapter` of every command, or a
    whole checkpoint. Needs the extra `tune`: pip install 'smolvideo[tune]'.

    \b
    smolvideo tune clips.jsonl --model smolvlm2-256m --out mine
    smolvideo ask --adapter mine video.mp4 "Which of our machines is this?"
    smolvideo tune clips.jsonl --model smolvlm2-2.2b --out mine --dry-run

    Each line of the file: {"video": "a.mp4", "question": "…", "answer": "…"}
    """
