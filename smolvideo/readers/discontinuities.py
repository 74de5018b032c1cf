"""Where the clock of a recording restarts or jumps, and how its parts follow each other.

A step back by more than 0.1 s, or ahead by more than 10 s where neither the rate of frames nor
another stream's clock accounts for it, is a discontinuity; what follows goes on one frame duration
after the last frame before it. These are the rule and thresholds of FFmpeg's own tool (fftools,
``ts_discontinuity_detect``; its option ``dts_delta_threshold``), which takes a low rate of frames
for a jump, as we do not.

Times are seconds on a part's own clock unless said otherwise; the *continued clock* is the one that
is shown, on which the parts follow each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smolvideo.frames import Discontinuity
from smolvideo.readers.byte_range import Stretch

Times = NDArray[np.float64]

STEP_BACK_SECONDS = 0.1
"""Decoding times that step back by no more are sloppy, and the same clock."""
JUMP_AHEAD_SECONDS = 10.0
_SLOW_FRAMES = 2.0
"""Usual frame durations by which the threshold of a jump ahead grows."""
_REORDERED_SHARE = 0.05
"""Share of steps back from which on times are those of presentation, in the order of decoding."""
_REORDER_DEPTH = 6
"""Frames of a pyramid of 16 B-frames after which one is shown later than one before them."""
_SAME_TIME = 1e-6
_NEAR_THE_END = 32
"""Packets among which the first and the last frame are shown (H.264 and HEVC reorder 16)."""
_SHORT_GLITCH = 4
"""Packets after which a clock that comes back was damaged, and is no other."""
_MAX_LEAD = 64 * 2**20
"""Bytes from a key frame to a part that are kept in memory for it."""
WRAP_SECONDS = 2**33 / 90_000
"""After so long the clock of MPEG begins again at 0 (ISO/IEC 13818-1, 2.4.3.7: 33 bits of
1/90000 s)."""


@dataclass(frozen=True)
class Stamps:
    """What the packets of one video stream say, in the order of the file: float64 ``[N]`` seconds
    of decoding and of presentation, int64 ``[N]`` byte positions, and which are key frames, None
    where the container does not say. Clocks that wrap are unwrapped.
    """

    decoded: Times
    shown: Times
    positions: NDArray[np.int64]
    keys: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.decoded)

    def within(self, first: int, end: int) -> "Stamps":
        keys = None if self.keys is None else self.keys[first:end]
        return Stamps(
            self.decoded[first:end], self.shown[first:end], self.positions[first:end], keys
        )


@dataclass(frozen=True)
class Lead:
    """What stands before a part that begins in the middle of a group of pictures: from the last
    key frame, in part ``first``, to the byte ``end``.

    From each of ``positions`` on, ``shifts`` (seconds) bring its stamps to the clock of the part.
    """

    first: int
    end: int
    positions: tuple[int, ...]
    shifts: tuple[float, ...]


@dataclass(frozen=True)
class KeyFrames:
    """Where decoding can begin: float64 ``[N]`` seconds of presentation on the file's own clock,
    ascending, int64 ``[N]`` byte positions; of the stream with FFmpeg's id ``stream_id``, if
    given."""

    shown: Times
    positions: NDArray[np.int64]
    stream_id: int | None = None


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is on one clock.

    ``first`` and ``last`` are when its first and last frame appear, ``frame_seconds`` how long one
    lasts; ``first_decoded`` and ``last_decoded`` are when they are decoded. ``starts_at`` is
    ``first`` on the continued clock, None while that is not known. ``wraps`` says whether the clock
    is MPEG's, ``leans`` whether the part begins in the middle of a group of pictures.
    ``sound_jumps`` says whether another stream's clock is set anew in it, ``lost_before`` and
    ``lost_after`` whether next to it there is one without pictures that can be read, and
    ``breaks_off`` whether it ends before what its header claims; ``gaps`` are when packets are
    missing in it.
    ``key_frames`` are known where the packets say which they are.
    """

    stretch: Stretch
    first: float
    last: float
    first_decoded: float
    last_decoded: float
    frame_seconds: float
    num_frames: int
    leans: bool = False
    wraps: bool = False
    starts_at: float | None = None
    sound_jumps: bool = False
    lost_before: bool = False
    lost_after: bool = False
    breaks_off: bool = False
    gaps: tuple[float, ...] = field(default=(), repr=False)
    key_frames: KeyFrames | None = field(default=None, repr=False, compare=False)

    def gaps_from(self, seconds: float) -> tuple[float, ...]:
        """When packets are missing, where the first frame appears at ``seconds``."""
        return tuple(round(max(0.0, seconds + gap - self.first), 6) for gap in self.gaps)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.last - self.first + self.frame_seconds

    def near(self, seconds: float) -> "Part":
        """The same with its times on that turn of a wrapping clock that is nearest ``seconds``."""
        if not self.wraps:
            return self
        turns = round((seconds - self.first) / WRAP_SECONDS) * WRAP_SECONDS
        return replace(
            self,
            first=self.first + turns,
            last=self.last + turns,
            first_decoded=self.first_decoded + turns,
            last_decoded=self.last_decoded + turns,
        )


def make_part(
    stretch: Stretch, stamps: Stamps, *, wraps: bool = False, stream_id: int | None = None
) -> Part:
    """The part with these stamps, one or more."""
    steps = np.diff(np.sort(stamps.shown))
    steps = steps[steps > _SAME_TIME]
    # Single stamps may be damaged: what a part begins and ends with is looked for where it is.
    return Part(
        stretch,
        first=float(stamps.shown[:_NEAR_THE_END].min()),
        last=float(stamps.shown[-_NEAR_THE_END:].max()),
        first_decoded=float(stamps.decoded[0]),
        last_decoded=float(stamps.decoded[-1]),
        leans=stamps.keys is not None and not stamps.keys[0],
        frame_seconds=float(np.median(steps)) if len(steps) else 0.0,
        num_frames=1 + len(steps),
        wraps=wraps,
        key_frames=_key_frames(stamps, stream_id),
    )


def _key_frames(stamps: Stamps, stream_id: int | None) -> KeyFrames | None:
    if stamps.keys is None or not stamps.keys.any():
        return None
    shown, places = np.unique(stamps.shown[stamps.keys], return_index=True)
    return KeyFrames(shown, stamps.positions[stamps.keys][places], stream_id)


def find_breaks(stamps: Stamps, others: Stamps | None = None) -> list[int]:
    """The packets with which another clock begins; ``others`` are those of the other streams."""
    if len(stamps) < 2:
        return []
    times = stamps.decoded
    steps = np.diff(times)
    usual = steps[steps > 0]
    frame = float(np.median(usual)) if len(usual) else 0.0
    before = times[:-1]
    if np.array_equal(times, stamps.shown) and _is_reordered(times, steps):
        before = _lowest_before(times)[1:]
    back = times[1:] < before - STEP_BACK_SECONDS
    longest = frame + max(JUMP_AHEAD_SECONDS, _SLOW_FRAMES * frame)
    breaks = [
        place
        for place in map(int, np.flatnonzero(back | (steps > longest)) + 1)
        if back[place - 1] or not _accounted_for(stamps, place, others)
    ]
    breaks = _without_glitches(times, breaks, longest)
    return _seen_in_pictures(stamps.shown, breaks, frame, longest)


def _is_reordered(times: Times, steps: Times) -> bool:
    """Whether times are those of presentation, in the order of decoding: after a step ahead over
    frames that are shown before, those come, later than what was before the step. A clock that
    restarts falls below that."""
    back = np.flatnonzero(steps < 0)
    if len(back) <= _REORDERED_SHARE * len(steps):
        return False
    ahead = np.maximum.accumulate(np.where(steps > 0, np.arange(len(steps)), -1))[back]
    follows = (ahead >= 0) & (times[back + 1] > times[ahead])
    return bool(2 * follows.sum() >= len(back))


def _seen_in_pictures(shown: Times, breaks: list[int], frame: float, longest: float) -> list[int]:
    """``breaks`` without those that are in decoding times only, as encoders that reorder frames
    leave behind a gap of no frames."""
    kept: list[int] = []
    for place, following in pairwise([*breaks, len(shown)]):
        start = max(kept[-1] if kept else 0, place - _NEAR_THE_END)
        before = shown[start:place].max()
        after = shown[place : min(following, place + _NEAR_THE_END)].min()
        if not -STEP_BACK_SECONDS <= after - before <= longest:
            kept.append(place)
    return kept


def _without_glitches(times: Times, breaks: list[int], longest: float) -> list[int]:
    """``breaks`` without those from which the clock comes back after a packet or two."""
    kept: list[int] = []
    for place in breaks:
        if kept and place - kept[-1] <= _SHORT_GLITCH:
            step = times[place] - times[kept[-1] - 1]
            if -STEP_BACK_SECONDS <= step <= longest:
                kept.pop()
                continue
        kept.append(place)
    return kept


def _lowest_before(times: Times) -> Times:
    """Of each time the lowest of those a few places before it."""
    padded = np.concatenate([np.full(_REORDER_DEPTH, np.inf), times[:-1]])
    lowest = np.lib.stride_tricks.sliding_window_view(padded, _REORDER_DEPTH).min(axis=1)
    return np.asarray(np.where(np.isinf(lowest), times, lowest))


def _accounted_for(stamps: Stamps, place: int, others: Stamps | None) -> bool:
    """Whether other streams run on through a gap before packet ``place``: then no frames came, and
    the clock is the same."""
    if others is None or not len(others):
        return False
    begin, end = stamps.positions[place - 1], stamps.positions[place]
    start, stop = float(stamps.decoded[place - 1]), float(stamps.decoded[place])
    low, high = np.searchsorted(others.positions, [begin, end])
    times = others.decoded[low:high]
    inside = np.sort(times[(times > start) & (times < stop)])
    gaps = np.diff(np.concatenate([[start], inside, [stop]]))
    return bool(gaps.max() <= JUMP_AHEAD_SECONDS)


def follow(parts: Sequence[Part], starts_at: float) -> list[Part]:
    """The parts one after the other on the continued clock, the first from ``starts_at`` on.

    A part that begins where the one before it ends, as the next segment of a stream does, and one
    after a gap of no more than 10 s, keep their clock.
    """
    placed = [replace(parts[0], starts_at=starts_at)]
    for part in parts[1:]:
        before = placed[-1]
        assert before.starts_at is not None
        part = part.near(before.last)
        step = _step(before, part) if is_discontinuous(before, part) else 0.0
        starts_at = before.starts_at + part.first - before.first - step
        placed.append(replace(part, starts_at=starts_at))
    return placed


def is_discontinuous(before: Part, part: Part) -> bool:
    """Whether another clock begins between two parts that follow each other."""
    step = _step(before, part)
    allowed = max(JUMP_AHEAD_SECONDS, _SLOW_FRAMES * before.frame_seconds)
    return not -STEP_BACK_SECONDS <= step + before.frame_seconds <= allowed + before.frame_seconds


def _step(before: Part, part: Part) -> float:
    """By how much the clock goes ahead between two parts, or back, where it is negative.

    A part of its own goes on where the last frame was shown. In the middle of a group of pictures
    frames are shown in another order than they come in: there decoding goes on.
    """
    part = part.near(before.last)
    if part.leans:
        return part.first_decoded - (before.last_decoded + before.frame_seconds)
    return part.first - (before.last + before.frame_seconds)


def discontinuities(parts: Sequence[Part]) -> tuple[Discontinuity, ...]:
    """Where on the continued clock of ``follow`` the file's own is another, and by how much."""
    return tuple(
        Discontinuity(round(part.starts_at or 0.0, 6), round(_step(before, part), 6))
        for before, part in pairwise(parts)
        if is_discontinuous(before, part)
    )


def find_lead(parts: Sequence[Part], stamps: Sequence[Stamps], place: int) -> Lead | None:
    """What the first frames of part ``place`` lean on; None where they lean on nothing before it,
    or where that is not known. ``stamps`` are those of the ``parts``."""
    if not parts[place].leans:
        return None
    placed = follow(parts, 0.0)
    clocks = [(part.starts_at or 0.0) - part.first for part in placed]
    positions: list[int] = []
    shifts: list[float] = []
    for before in range(place - 1, -1, -1):
        one = stamps[before]
        found = np.flatnonzero(one.keys) if one.keys is not None else np.empty(0, np.int64)
        first = int(found[-1]) if len(found) else 0
        positions.insert(0, int(one.positions[first]))
        shifts.insert(0, clocks[before] - clocks[place])
        end = parts[place - 1].stretch.end
        if end - positions[0] > _MAX_LEAD:
            return None
        if len(found):
            return Lead(before, end, tuple(positions), tuple(shifts))
    return None
