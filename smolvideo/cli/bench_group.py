"""``smolvideo bench``: the group; without a subcommand it benchmarks engines."""

from typing import Any

import click

from smolvideo.cli.bench import bench as engines
from smolvideo.cli.bench_frames import bench_frames
from smolvideo.cli.params import SectionGroup


@click.pass_context
def _engines_unless_asked_for_more(ctx: click.Context, /, **given: Any) -> None:
    if ctx.invoked_subcommand is None:
        assert engines.callback is not None
        engines.callback(**given)


bench = SectionGroup(
    "bench",
    callback=_engines_unless_asked_for_more,
    params=engines.params,
    help=engines.help,
    invoke_without_command=True,
    subcommand_metavar="[frames]",
)
bench.add_command(bench_frames)
