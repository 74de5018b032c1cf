"""Options of a run on a Ray cluster."""

import re

import click

from smolvideo.cli.flags import Flags, IntegerType, SectionCommand, flag
from smolvideo.errors import UsageError
from smolvideo.ray_cluster import RayOptions, check_installed

_ADDRESS = re.compile(r"auto|local|ray://.+|[\w.-]+:\d+")


class RayCommand(SectionCommand):
    """Allows ``--ray`` without a value: the next word is its address only if it has that form."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = list(args)
        for place, word in enumerate(words):
            if word == "--":
                break
            if word == "--ray":
                after = words[place + 1] if place + 1 < len(words) else ""
                if not _ADDRESS.fullmatch(after):
                    words.insert(place + 1, "local")
                break
        return super().parse_args(ctx, words)


class RayFlags(Flags, section="Run"):
    """Options of the cluster."""

    ray: str | None = flag(
        metavar="[ADDRESS]",
        show_default="this process alone",
        help="Run on a Ray cluster: auto, ray://HOST:PORT, HOST:PORT; without an address, on "
        "workers of this machine.",
    )
    ray_workers: int | None = flag(
        type=IntegerType(min=1),
        metavar="N",
        show_default="one per GPU, or per four cores",
        help="Engines on the cluster.",
    )


def read_cluster(given: RayFlags) -> RayOptions | None:
    """Read the cluster; None without one. Raises UsageError where Ray is missing."""
    if given.ray is None:
        if given.is_explicit("ray_workers"):
            raise UsageError("`--ray-workers` has no effect without `--ray`")
        return None
    check_installed()
    return RayOptions(given.ray, given.ray_workers)
