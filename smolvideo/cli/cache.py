"""``smolvideo cache``: show and clear the disk caches; ``--no-cache`` for other commands."""

import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from smolvideo.cli.flags import Flags, PlainGroup, SizeType, flag
from smolvideo.cli.main import debug_option
from smolvideo.cost import rates
from smolvideo.engines import CACHING_ENGINES, FeatureCache
from smolvideo.engines.feature_cache import DEFAULT_LIMIT_BYTES
from smolvideo.errors import SourceError, UsageError
from smolvideo.formatting import format_bytes, format_count
from smolvideo.records import json_line
from smolvideo.show.console import open_screen
from smolvideo.show.tables import show_table
from smolvideo.source import CacheStats, cache_dir, clear_downloads, download_contents

SIZE_VARIABLE = "SMOLVIDEO_CACHE_SIZE"

_json_option = click.option(
    "--json", "as_json", is_flag=True, help="JSON instead of words.", default=False
)


class CacheFlags(Flags, section="Model"):
    """``--no-cache``, for commands that encode frames."""

    no_cache: bool = flag(
        help="Neither read nor write the feature cache (see `smolvideo cache`). The engine"
        " transformers never uses it."
    )


def open_feature_cache(
    engine: str, *, no_cache: bool = False, on_note: Callable[[str], None] = lambda _: None
) -> FeatureCache | None:
    """Open the frame-feature cache for ``engine``; None if the engine does not use it.

    Raises UsageError for an invalid size in the environment.
    """
    limit_bytes = _limit_bytes()
    if no_cache or engine not in CACHING_ENGINES:
        return None
    try:
        return FeatureCache(limit_bytes=limit_bytes)
    except SourceError as error:  # no folder for it: answer without a cache
        on_note(f"frame features are not kept: {error}")
        return None


@click.group(cls=PlainGroup)
@debug_option
def cache() -> None:
    """Show or clear the caches on disk.

    There are three: downloaded videos; the features that the model's vision tower computed for
    frames, so that the next question about a video, in any process, encodes no frame again; and
    the measured rates of this machine, with the times of past answers, for predictions of cost.
    Features stay within SMOLVIDEO_CACHE_SIZE (4 GB unless set); the least recently used ones are
    deleted first. Models are in the hub's cache: see `smolvideo models`.
    """


@cache.command("info")
@_json_option
@debug_option
def info(as_json: bool) -> None:
    """Show size and folder of the caches."""
    screen = open_screen()
    features = FeatureCache(limit_bytes=_limit_bytes())
    kept = {
        "features": features.stats(),
        "downloads": download_contents(),
        "cost": rates.cost_stats(),
    }
    limits = {"features": features.limit_bytes, "downloads": None, "cost": None}
    if as_json:
        facts = {
            name: {**_as_json(contents), "limit_bytes": limits[name]}
            for name, contents in kept.items()
        }
        screen.write(json_line({"folder": str(cache_dir()), **facts}) + "\n")
        return
    rows = [
        [
            name,
            f"{contents.entries:,}",
            format_bytes(contents.size_bytes),
            format_bytes(limit) if (limit := limits[name]) is not None else "none",
            _day(contents.oldest),
            str(cache_dir() / name),
        ]
        for name, contents in kept.items()
    ]
    columns = ["what", "entries", "size", "limit", "oldest", "folder"]
    show_table(screen, columns, rows, right=frozenset({1, 2, 3}))


@cache.command("clear")
@click.option("--features", is_flag=True, help="Only the features of frames.")
@click.option("--downloads", is_flag=True, help="Only downloaded videos.")
@click.option("--cost", is_flag=True, help="Only measured rates and times of past answers.")
@_json_option
@debug_option
def clear(features: bool, downloads: bool, cost: bool, as_json: bool) -> None:
    """Delete the caches.

    Without an option all. A running download is not deleted.
    """
    screen = open_screen()
    everything = features == downloads == cost
    freed: dict[str, CacheStats] = {}
    if features or everything:
        freed["features"] = FeatureCache().clear()
    if downloads or everything:
        before = download_contents()
        size = clear_downloads()
        gone = before.entries - download_contents().entries
        freed["downloads"] = CacheStats(gone, size, before.oldest)
    if cost or everything:
        freed["cost"] = rates.clear_costs()
    if as_json:
        facts = {
            name: {"entries": contents.entries, "freed_bytes": contents.size_bytes}
            for name, contents in freed.items()
        }
        screen.write(json_line(facts) + "\n")
        return
    for name, contents in freed.items():
        count = format_count(contents.entries, "entry", "entries")
        screen.write(f"{name}: {count} deleted, {format_bytes(contents.size_bytes)} freed\n")


def _limit_bytes() -> int:
    text = os.environ.get(SIZE_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT_BYTES
    try:
        return SizeType().convert(text, None, None)
    except click.BadParameter as error:
        raise UsageError(f"{SIZE_VARIABLE}: {error.message}") from error


def _as_json(contents: CacheStats) -> dict[str, Any]:
    facts = asdict(contents)
    if contents.oldest is not None:
        facts["oldest"] = (
            datetime.fromtimestamp(contents.oldest).astimezone().isoformat("T", "seconds")
        )
    return facts


def _day(moment: float | None) -> str:
    return "" if moment is None else datetime.fromtimestamp(moment).strftime("%Y-%m-%d")
