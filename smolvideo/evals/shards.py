"""Shards of a run for machines without a common cluster, and the run that they make together.

A shard is a run of its own folder with the items of every n-th video. ``run.json`` has the
positions of its items among all items of the run, so that the merged run has its items and answers
in the order, and the bytes, of a run without shards.
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from smolvideo.errors import RecordError, UsageError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.run_folder import EvalAnswer, Key, RunFolder
from smolvideo.evals.run_records import MAX_SHARDS, EvalVideo, RunShard
from smolvideo.sanitize import display_name, display_path


@dataclass(frozen=True)
class Shard:
    """Shard ``number``, from 1, of ``count``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Parse ``3/8``. Raises ValueError.

        >>> str(Shard.parse("3/8"))
        '3/8'
        """
        found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text.strip(), re.ASCII)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count <= MAX_SHARDS:
            raise ValueError(f"a shard is N/COUNT, as 3/8, with N from 1 to COUNT, not `{text}`")
        return cls(number, count)


def choose_shard(items: Sequence[EvalItem], shard: Shard) -> RunShard:
    """Choose the items of a shard; all items of a video are in one.

    Video after video goes to the shard that has the fewest items so far, so that shards are about
    equal, and depend on the items alone. Raises UsageError if the shard has no item.
    """
    videos: dict[tuple[str, ...], list[int]] = {}
    for position, item in enumerate(items):
        videos.setdefault(item.video_names, []).append(position)
    sizes = [0] * shard.count
    own: list[int] = []
    for positions in videos.values():
        fewest = sizes.index(min(sizes))
        sizes[fewest] += len(positions)
        if fewest == shard.number - 1:
            own += positions
    if not own:
        raise UsageError(
            f"shard {shard} has no question: there are {len(videos):,} videos",
            hint=f"use at most {len(videos)} shards",
        )
    return RunShard(shard.number, shard.count, len(items), tuple(sorted(own)))


@dataclass(frozen=True)
class Merged:
    """A merged run; ``notices`` are sentences about what differs between its shards."""

    run: RunFolder
    notices: tuple[str, ...]


def merge_shards(folders: Sequence[Path], target: Path) -> Merged:
    """Merge the shards in ``folders`` into the run ``target``, or merge them into it once more.

    Answers that the shards do not have stay as they are in ``target``; missing ones can be asked
    there, or in their shards before another merge. Raises UsageError if the shards do not belong
    together or some are missing, RecordError if a folder cannot be read or written.
    """
    shards = [RunFolder.read(folder) for folder in folders]
    parts = _parts(shards, target)
    _check_all_there(shards, parts)
    items = _items_of(shards, parts)
    created = min(shard.info.created for shard in shards)
    info = replace(shards[0].info, shard=None, created=created)
    with ExitStack() as locked:
        for shard in shards:
            locked.enter_context(shard.lock())
        answers: dict[Key, EvalAnswer] = {}
        videos: dict[str, EvalVideo] = {}
        for shard in shards:
            answers |= shard.answers()
            videos |= shard.videos()
        run = RunFolder.open(target, info, items)
        locked.enter_context(run.lock())
        for key, known in run.answers().items():
            if key not in answers or (answers[key].failed and not known.failed):
                answers[key] = known
        run.replace_records(answers, run.videos() | videos)
        for shard in shards:
            _copy_thumbnails(shard, run)
    versions = {tuple(sorted(shard.info.versions.items())) for shard in shards}
    notices = ("the shards were run by different versions of packages",) * (len(versions) > 1)
    return Merged(run, notices)


def _copy_thumbnails(shard: RunFolder, run: RunFolder) -> None:
    for look in shard.videos():
        if (strip := shard.strip(look)) is not None:
            run.save_thumbnails(strip.name, strip.read_bytes())


def _parts(shards: Sequence[RunFolder], target: Path) -> list[RunShard]:
    """What each run is a shard of. Raises UsageError if they are not shards of one run."""
    first, parts = shards[0], []
    for shard in shards:
        if shard.info.shard is None:
            raise UsageError(
                f"{display_path(shard.folder)} is a whole run, and no shard",
                hint="`smolvideo eval BENCHMARK … --shard 1/8` makes one",
            )
        if shard.folder.resolve() == target.resolve():
            raise UsageError(
                f"{display_path(target)} is one of the shards",
                hint="name another folder with `--run DIR`",
            )
        parts.append(shard.info.shard)
        whole = [replace(one.info, shard=None) for one in (first, shard)]
        differences = whole[0].differences(whole[1])
        for name in ("count", "selected"):
            numbers = [getattr(part, name) for part in (parts[0], parts[-1])]
            if numbers[0] != numbers[1]:
                differences.append(f"{name}: {numbers[0]}, now {numbers[1]}")
        if differences:
            raise UsageError(
                f"{display_path(first.folder)} and {display_path(shard.folder)} are shards of "
                f"different runs ({display_name('; '.join(differences[:3]), 300)})"
            )
    return parts


def _check_all_there(shards: Sequence[RunFolder], parts: Sequence[RunShard]) -> None:
    """Raise UsageError if a shard is missing, or there twice."""
    folders: dict[int, Path] = {}
    for shard, part in zip(shards, parts, strict=True):
        if part.number in folders:
            raise UsageError(
                f"{display_path(folders[part.number])} and {display_path(shard.folder)} are both "
                f"shard {part}"
            )
        folders[part.number] = shard.folder
    count, selected = parts[0].count, parts[0].selected
    missing = [f"{number}/{count}" for number in range(1, count + 1) if number not in folders]
    if missing:
        named = ", ".join(missing[:8]) + (", …" if len(missing) > 8 else "")
        rest = selected - sum(len(part.positions) for part in parts)
        raise UsageError(
            f"{len(missing)} of {count} shards are missing: {named} ({rest:,} of {selected:,} "
            "questions)"
        )


def _items_of(shards: Sequence[RunFolder], parts: Sequence[RunShard]) -> list[EvalItem]:
    """All items in the order of the run. Raises RecordError if they do not fit together."""
    placed: dict[int, EvalItem] = {}
    for shard, part in zip(shards, parts, strict=True):
        if len(part.positions) != len(shard.items) or placed.keys() & {*part.positions}:
            raise RecordError(
                f"{display_path(shard.folder)} has other questions than its run.json says"
            )
        placed |= dict(zip(part.positions, shard.items, strict=True))
    ids = {item.id for item in placed.values()}
    if not len(ids) == len(placed) == parts[0].selected:
        raise RecordError("the shards do not have all questions of one run, each once")
    return [placed[position] for position in sorted(placed)]
