"""``smolvideo eval``: multiple-choice benchmarks, their reports and comparisons.

The module of a subcommand is imported lazily, when it runs or prints its help.
"""

from importlib import import_module

import click

from smolvideo.cli.main import debug_option
from smolvideo.errors import UsageError
from smolvideo.evals.datasets.registry import SCHEMAS

COMMANDS = {
    **{name: (f"smolvideo.cli.eval_run:{name}", one.title) for name, one in SCHEMAS.items()},
    "world": (
        "smolvideo.cli.eval_run:exam",
        "Held-out scenes of the drawn world that nano learns.",
    ),
    "suite": ("smolvideo.cli.eval_suite:suite", "Models × benchmarks × settings, in one table."),  # noqa: RUF001
    "merge": ("smolvideo.cli.eval_report:merge", "The runs of all shards as one run."),
    "report": ("smolvideo.cli.eval_report:report", "The scores of a run."),
    "compare": ("smolvideo.cli.eval_report:compare", "Two runs on the same questions."),
    "export": ("smolvideo.cli.eval_report:export", "A run as lmms-eval's result files."),
}
"""Name → import path of the command, and its line in the help."""


class EvalCommands(click.Group):
    """Lazy group of subcommands; a .jsonl file as the first argument selects ``jsonl``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        run = import_module(module)
        command = run.benchmark_command(name) if name in SCHEMAS else getattr(run, name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            if not args[0].lower().endswith((".jsonl", ".ndjson")):
                raise UsageError(
                    f"no such benchmark: `{args[0]}`",
                    hint="one of " + ", ".join(list(COMMANDS)[:4]) + ", or a .jsonl file",
                )
            args = ["jsonl", *args]
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group("eval", cls=EvalCommands)
@debug_option
def evaluate() -> None:
    """Run multiple-choice benchmarks.

    Every score has its protocol, its coverage of the benchmark, and its confidence interval.

    \b
    smolvideo eval cinepile test.parquet --videos clips/ --run runs/mine
    smolvideo eval my-questions.jsonl --model smolvlm2-256m --control blind
    smolvideo eval report runs/mine --format html -o mine.html

    The same command resumes a run that was stopped.
    """
