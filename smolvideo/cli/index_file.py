"""``smolvideo index status`` and ``vacuum``: the index file as a whole."""

from dataclasses import asdict

import click

from smolvideo.cli.flags import Flags, SectionCommand, flag, takes
from smolvideo.cli.index_options import IndexFileFlags
from smolvideo.formatting import format_bytes, format_count, format_seconds
from smolvideo.index.build import prune
from smolvideo.index.store import IndexStore
from smolvideo.records import json_line
from smolvideo.sanitize import display_path, escape_controls
from smolvideo.show.console import open_screen
from smolvideo.show.tables import show_key_values

_MAX_FAILURES = 20


class JsonFlags(Flags, section="Output"):
    """The option ``--json``."""

    as_json: bool = flag("--json", help="Print JSON instead of words.")


class StatusFlags(IndexFileFlags, JsonFlags):
    """All options of the command."""


@click.command("status", cls=SectionCommand)
@takes(StatusFlags)
def status(given: StatusFlags) -> None:
    """Show what the index holds: videos, files, windows, hours, models, and files that failed."""
    screen = open_screen()
    with IndexStore(given.index_path, read_only=True) as store:
        found, failures = store.status(), store.failures()
    if given.as_json:
        content = {"record": "smolvideo.index/1", "file": str(given.index_path), **asdict(found)}
        screen.write(json_line(content) + "\n")
        return
    show_key_values(
        screen,
        {
            "file": str(given.index_path),
            "size": format_bytes(found.bytes),
            "videos": f"{found.videos:,}, in {format_count(found.files, 'file')}",
            "windows": f"{found.windows:,}",
            "length": format_seconds(3600 * found.hours),
            "incomplete": f"{found.incomplete:,}",
            "failed": f"{found.failed:,}",
            "models": ", ".join(f"{name} ({count:,})" for name, count in found.models.items()),
        },
    )
    for path, error in [*failures.items()][:_MAX_FAILURES]:
        screen.write(f"failed: {display_path(path)}: {escape_controls(error)}\n")
    if len(failures) > _MAX_FAILURES:
        screen.write(f"and {len(failures) - _MAX_FAILURES:,} more\n")


@click.command("vacuum", cls=SectionCommand)
@takes(IndexFileFlags)
def vacuum(given: IndexFileFlags) -> None:
    """Leave out files that are gone, and make the index file as small as it can be."""
    screen = open_screen()
    with IndexStore(given.index_path, must_exist=True) as store:
        before = store.status()
        gone = prune(store)
        store.vacuum()
        after = store.status()
    screen.write(
        f"{format_count(gone, 'file')} left out, "
        f"{format_bytes(max(0, before.bytes - after.bytes))} freed\n"
    )
