"""A realistic video folder: valid, unusual, broken and duplicate files, and awkward names."""

import os
import shutil
import sys
from pathlib import Path
from random import Random

from smolvideo.train.world.render import EncodingOptions, write_video
from smolvideo.train.world.scene_sampler import sample_scene

HOSTILE_NAMES = (
    "-rf.mp4",
    "--help.mp4",
    "$(reboot).mp4",
    "a 'quoted' \"name\".mp4",
    "%s %d {0} {}.mp4",
    "ünïcödé 日本語 🎬.mp4",
    "\u202egpj.4pm.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    "# [x](y) *z*.mp4",
    "two\nlines.mp4",
    "\x1b[31mred\x1b[0m.mp4",
    "n" * 200 + ".mp4",
)


def make_folder(folder: Path, count: int, *, clips: Path | None = None, seed: int = 0) -> Path:
    """Fill ``folder`` with ``count`` files; equal seeds give equal files.

    ``clips`` is a folder of real videos, all of which are used.
    """
    random = Random(seed)
    folder.mkdir(parents=True)
    if clips is not None:
        real = sorted(path for path in clips.iterdir() if path.suffix not in (".tsv", ".md"))
        for path in real[:count]:
            shutil.copyfile(path, folder / path.name)
    drawn: list[Path] = []
    number = len(list(folder.iterdir()))
    while number < count:
        made = _one_more(folder, number, drawn, random)
        number += 1
        if made is not None:
            drawn.append(made)
    return folder


def _one_more(folder: Path, number: int, drawn: list[Path], random: Random) -> Path | None:
    """Write file ``number`` and return it if it is a new valid video."""
    kind = number % 12
    subfolder = folder / ("", "a", "b/c")[number % 3]
    subfolder.mkdir(parents=True, exist_ok=True)
    if kind in (3, 7) and drawn:
        shutil.copyfile(random.choice(drawn), subfolder / f"copy {number}.mp4")
        return None
    if kind == 5 and drawn:
        data = random.choice(drawn).read_bytes()
        (subfolder / f"broken {number}.mp4").write_bytes(data[: len(data) // 2])
        return None
    if kind == 9:
        (subfolder / f"empty {number}.mp4").write_bytes(b"")
        return None
    if kind == 11:
        (subfolder / f"text {number}.mp4").write_text("no video at all\n" * 9)
        return None
    film = EncodingOptions(96, 96, fps=random.choice((5, 8, 10)), seconds=random.uniform(1, 3))
    path = subfolder / _name(number)
    if path.exists():
        path = subfolder / f"{number} {_name(number)[:50]}.mp4"
    # The encoder cannot write some of the names: renamed afterwards.
    plain = subfolder / f"plain-{number}.mp4"
    write_video(sample_scene(random), film, plain)
    os.replace(plain, path)
    return path


def _name(number: int) -> str:
    if number % 4 == 2:
        name = HOSTILE_NAMES[(number // 4) % len(HOSTILE_NAMES)]
        if sys.platform == "win32":
            return f"{number}.mp4"
        return name
    # The same stem in several folders, and with several suffixes in one.
    return f"video {number // 6}.{'mp4' if number % 2 else 'mov'}"
