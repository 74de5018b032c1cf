"""Arithmetic of discontinuities: where a clock breaks, and offsets that make parts continuous."""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smolvideo.readers.discontinuities import Part, Stamps, find_breaks, follow, is_discontinuous
from smolvideo.readers.ffmpeg_input import ByteRange
from smolvideo.readers.part_finder import find_parts

reorderings = st.sampled_from([[0], [0, 2, 1], [0, 4, 2, 1, 3], [0, 8, 4, 2, 1, 3, 6, 5, 7]])


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(20, 60), min_size=1, max_size=5),
    fps=st.sampled_from([0.05, 1, 5, 24, 25, 60, 120]),
    order=reorderings,
    jumps=st.lists(st.floats(-1000, 1000), min_size=5, max_size=5),
    stamped=st.booleans(),
)
def test_breaks_are_at_clock_changes(
    lengths: list[int], fps: float, order: list[int], jumps: list[float], stamped: bool
) -> None:
    shown: list[float] = []
    decoded: list[float] = []
    expected: list[int] = []
    clock = 1000.0
    frame = 1 / fps
    for place, length in enumerate(lengths):
        if place:
            # A jump by a clear margin: a few frames from the thresholds.
            back = jumps[place] < 0
            clock += (
                min(jumps[place], -0.2 - 20 * frame) if back else jumps[place] + 11 + 20 * frame
            )
            expected.append(len(shown))
        size = len(order)
        numbers = [size * (n // size) + order[n % size] for n in range(length - length % size)]
        shown += [clock + number * frame for number in numbers]
        decoded += [clock + (n - size) * frame for n in range(len(numbers))]
        clock += len(numbers) * frame
    stamps = Stamps(
        np.array(decoded if stamped else shown), np.array(shown), np.arange(len(shown)) * 1000
    )
    assert find_breaks(stamps) == expected


@settings(deadline=None)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=200))
def test_ascending_clock_has_no_breaks(steps: list[float]) -> None:
    times = np.cumsum(steps)
    assert find_breaks(Stamps(times, times, np.arange(len(times)))) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 90000), st.floats(0.5, 50)), min_size=1, max_size=6),
    st.floats(0, 10),
)
def test_parts_have_no_gap_or_overlap(spans: list[tuple[float, float]], starts_at: float) -> None:
    frame = 0.04
    parts = [
        Part(ByteRange(0, 1, "x"), first, first + length, first, first + length, frame, 10)
        for first, length in spans
    ]
    placed = follow(parts, starts_at)
    assert placed[0].starts_at == starts_at
    for before, part in pairwise(placed):
        assert before.starts_at is not None
        assert part.starts_at is not None
        gap = part.starts_at - (before.starts_at + before.seconds)
        assert -0.1 - frame - 1e-6 <= gap <= 10 + 1e-6
        if is_discontinuous(before, part):
            assert gap == pytest.approx(0, abs=1e-6)


@settings(deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 3))
def test_find_parts_accepts_any_bytes(content: bytes, kind: int) -> None:
    start = (b"G" + bytes(187)) * 3, b"FLV\x01\x05\0\0\0\x09\0\0\0\0", b"\0\0\0\x08ftyp", b"G"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(start[kind] + content)
        assert isinstance(find_parts(path), list)
