"""Mutated videos: each is read or is a one-line error, within a time limit.

``SMOLVIDEO_MUTANTS=2000`` takes many more than the usual sample, and many minutes.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support import clipmaker, processes
from support.project import SHARED

from smolvideo.errors import ReaderError
from smolvideo.readers import open_video
from smolvideo.readers.decoder_process import close_idle_processes
from smolvideo.sampling import FrameSampling, sample_frames

MUTANTS = int(os.environ.get("SMOLVIDEO_MUTANTS", "60"))
LARGEST = 2**20
"""Maximal size of mutated clips in bytes, so that time is spent on mutants, not on decoding."""
SLOW = {"av1_hdr10.mp4", "editlist_positive_shift.mp4"}


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 4, 30, 300])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def flip_in_head(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 10])):
        data[chance.randrange(min(2000, len(data)))] = chance.randrange(256)


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def drop(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 5000)]


def wipe(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.randrange(1, 20_000))
    data[start:end] = bytes([chance.choice([0, 255])]) * (end - start)


def large_number(data: bytearray, chance: random.Random) -> None:
    place = chance.randrange(max(1, len(data) - 4))
    data[place : place + 4] = chance.choice([b"\x7f\xff\xff\xff", b"\xff" * 4, bytes(4)])


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    flip_in_head,
    cut,
    drop,
    wipe,
    large_number,
)


def originals(folder: Path) -> list[bytes]:
    """Return clips of many formats: the shared ones if present, else a few made here."""
    clips = SHARED / "clips"
    if clips.is_dir():
        found = [path for path in sorted(clips.iterdir()) if path.suffix not in {".tsv", ".md"}]
        small = [path for path in found if 0 < path.stat().st_size < LARGEST]
        return [path.read_bytes() for path in small if path.name not in SLOW]
    times = clipmaker.evenly(20, 10)
    made = [
        clipmaker.write_clip(folder / "a.mp4", times),
        clipmaker.write_clip(folder / "a.mkv", times),
        clipmaker.write_clip(folder / "a.avi", times, codec="mpeg4"),
        clipmaker.write_clip(folder / "a.ts", times),
    ]
    return [clip.path.read_bytes() for clip in made]


@pytest.mark.slow
def test_mutant_is_read_or_a_reader_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = processes.decoding()
    whole = originals(tmp_path)
    chance = random.Random(7)
    path = tmp_path / "mutant.mp4"
    read = 0
    for number in range(MUTANTS):
        data = bytearray(whole[number % len(whole)])
        for mutate in chance.choices(MUTATIONS, k=chance.choice([1, 1, 2])):
            if data:
                mutate(data, chance)
        path.write_bytes(data)
        problem = ""
        try:
            with open_video(path, reader=chance.choice(["pyav"] * 9 + ["auto"])) as video:
                batch = sample_frames(video, FrameSampling(max_frames=4), max_side=64)
        except ReaderError as error:
            problem = str(error)
        else:
            read += 1
            assert 1 <= len(batch) <= 4, number
        assert "\n" not in problem, number
        assert not problem or "mutant" in problem, (number, problem)
    assert 0 < read < MUTANTS, "some are read and some are not, or nothing is tested"
    assert capfd.readouterr() == ("", "")
    close_idle_processes()
    assert processes.decoding() <= before, "every process of this test has ended"
