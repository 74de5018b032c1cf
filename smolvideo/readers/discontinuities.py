"""Clock discontinuities: finding restarts and jumps of time stamps, and joining the parts.

A step back by more than 0.1 s is a discontinuity, and so is a step ahead by more than 10 s that
neither the frame rate nor another stream's clock explains. The part after it is shifted to begin
one frame duration after the last frame before it. Rule and thresholds are those of FFmpeg's
command-line tool (fftools, ``ts_discontinuity_detect``; its option ``dts_delta_threshold``), except
that FFmpeg takes a low frame rate for a jump.

Times are seconds on a part's own clock unless said otherwise; the *continued clock* is the one
shown to the user, on which the parts follow each other without gaps or overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from smolvideo.frames import Discontinuity
from smolvideo.readers.ffmpeg_input import ByteRange

Times = NDArray[np.float64]

STEP_BACK_SECONDS = 0.1
"""Decoding times that step back by no more than this are inaccurate, but on the same clock."""
JUMP_AHEAD_SECONDS = 10.0
_SLOW_FRAMES = 2.0
"""Minimum threshold of a jump ahead in frame durations, for streams of few frames per second."""
_REORDERED_SHARE = 0.05
"""Share of steps back from which on ``decoded`` holds presentation times in decoding order."""
_REORDER_DEPTH = 6
"""Window in frames: after 16 B-frames in a pyramid a frame is shown later than one before it."""
_SAME_TIME = 1e-6
_NEAR_THE_END = 32
"""Packets at each end of a part among which its first and last shown frame are (H.264 and HEVC
reorder at most 16 frames)."""
_SHORT_GLITCH = 4
"""Packets within which a clock that returns was a damaged time stamp, not a new clock."""
_MAX_LEAD = 64 * 2**20
"""Maximum bytes from the preceding key frame to a part; they are held in memory."""
WRAP_SECONDS = 2**33 / 90_000
"""Period of MPEG's clock (ISO/IEC 13818-1, 2.4.3.7: 33 bits of 1/90000 s)."""


@dataclass(frozen=True)
class Stamps:
    """Packet time stamps of one video stream, in file order.

    ``decoded`` (DTS) and ``shown`` (PTS) are float64 ``[N]`` seconds, ``positions`` int64 ``[N]``
    byte offsets, ``keys`` a mask of key frames or None where the container has no such flag.
    Wrapping clocks are unwrapped.
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
    """The packets that must be decoded before a part that begins in the middle of a GOP: from the
    last key frame, in part ``first``, to the byte ``end``.

    From each byte of ``positions`` on, the seconds in ``shifts`` are added to the time stamps to
    bring them to the clock of the part.
    """

    first: int
    end: int
    positions: tuple[int, ...]
    shifts: tuple[float, ...]


@dataclass(frozen=True)
class KeyFrames:
    """Points where decoding can begin: ``shown``, float64 ``[N]`` ascending presentation times in
    seconds on the file's own clock, and ``positions``, int64 ``[N]`` byte offsets; of the stream
    with FFmpeg's id ``stream_id``, if it is not None."""

    shown: Times
    positions: NDArray[np.int64]
    stream_id: int | None = None


@dataclass(frozen=True)
class Part:
    """A byte range of a file whose time stamps are on one clock.

    ``first`` and ``last`` are the presentation times of its first and last frame,
    ``first_decoded`` and ``last_decoded`` their decoding times, ``frame_seconds`` the duration of
    one frame. ``starts_at`` is ``first`` on the continued clock, None until it is computed.
    ``wraps``: the clock is MPEG's, with a period of ``WRAP_SECONDS``. ``leans``: the part begins in
    the middle of a GOP. ``sound_jumps``: another stream's clock is discontinuous within the part.
    ``lost_before`` and ``lost_after``: the adjacent part has no decodable frames. ``breaks_off``:
    the file ends before the length its header claims. ``gaps``: times at which packets are missing.
    ``key_frames``: None where the packets carry no key-frame flag.
    """

    byte_range: ByteRange
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
        """Return the times of missing packets, on a clock whose first frame is at ``seconds``."""
        return tuple(round(max(0.0, seconds + gap - self.first), 6) for gap in self.gaps)

    @property
    def seconds(self) -> float:
        """Duration, with that of the last frame."""
        return self.last - self.first + self.frame_seconds

    def near(self, seconds: float) -> "Part":
        """Return the part shifted by the multiple of ``WRAP_SECONDS`` that brings ``first`` nearest
        to ``seconds``, if its clock wraps."""
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
    byte_range: ByteRange, stamps: Stamps, *, wraps: bool = False, stream_id: int | None = None
) -> Part:
    """Make the part of one or more packets with these time stamps."""
    steps = np.diff(np.sort(stamps.shown))
    steps = steps[steps > _SAME_TIME]
    # A single time stamp may be damaged: first and last are searched at the two ends only.
    return Part(
        byte_range,
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
    shown, indices = np.unique(stamps.shown[stamps.keys], return_index=True)
    return KeyFrames(shown, stamps.positions[stamps.keys][indices], stream_id)


def find_breaks(stamps: Stamps, others: Stamps | None = None) -> list[int]:
    """Return the indices of packets at which a new clock begins; ``others`` holds the stamps of the
    other streams."""
    if len(stamps) < 2:
        return []
    times = stamps.decoded
    steps = np.diff(times)
    positive = steps[steps > 0]
    frame = float(np.median(positive)) if len(positive) else 0.0
    before = times[:-1]
    # Some containers store presentation times only: compare with the lowest recent one.
    if np.array_equal(times, stamps.shown) and _is_reordered(times, steps):
        before = _lowest_before(times)[1:]
    back = times[1:] < before - STEP_BACK_SECONDS
    max_step = frame + max(JUMP_AHEAD_SECONDS, _SLOW_FRAMES * frame)
    breaks = [
        index
        for index in map(int, np.flatnonzero(back | (steps > max_step)) + 1)
        if back[index - 1] or not _accounted_for(stamps, index, others)
    ]
    breaks = _without_glitches(times, breaks, max_step)
    return _seen_in_pictures(stamps.shown, breaks, frame, max_step)


def _is_reordered(times: Times, steps: Times) -> bool:
    """Return whether ``times`` are presentation times in decoding order.

    With B-frames, a step ahead to a reference frame is followed by the frames shown before it,
    whose times are still later than the one before the step. A restarted clock falls below that
    time.
    """
    back = np.flatnonzero(steps < 0)
    if len(back) <= _REORDERED_SHARE * len(steps):
        return False
    ahead = np.maximum.accumulate(np.where(steps > 0, np.arange(len(steps)), -1))[back]
    follows = (ahead >= 0) & (times[back + 1] > times[ahead])
    return bool(2 * follows.sum() >= len(back))


def _seen_in_pictures(shown: Times, breaks: list[int], frame: float, max_step: float) -> list[int]:
    """Return the ``breaks`` that are in presentation times as well. Encoders that reorder frames
    leave breaks in decoding times alone after a pause without frames."""
    confirmed: list[int] = []
    for index, following in pairwise([*breaks, len(shown)]):
        start = max(confirmed[-1] if confirmed else 0, index - _NEAR_THE_END)
        before = shown[start:index].max()
        after = shown[index : min(following, index + _NEAR_THE_END)].min()
        if not -STEP_BACK_SECONDS <= after - before <= max_step:
            confirmed.append(index)
    return confirmed


def _without_glitches(times: Times, breaks: list[int], max_step: float) -> list[int]:
    """Return ``breaks`` without those after which the old clock returns within
    ``_SHORT_GLITCH`` packets."""
    confirmed: list[int] = []
    for index in breaks:
        if confirmed and index - confirmed[-1] <= _SHORT_GLITCH:
            step = times[index] - times[confirmed[-1] - 1]
            if -STEP_BACK_SECONDS <= step <= max_step:
                confirmed.pop()
                continue
        confirmed.append(index)
    return confirmed


def _lowest_before(times: Times) -> Times:
    """Return for each time the lowest of the ``_REORDER_DEPTH`` times before it."""
    padded = np.concatenate([np.full(_REORDER_DEPTH, np.inf), times[:-1]])
    lowest = np.lib.stride_tricks.sliding_window_view(padded, _REORDER_DEPTH).min(axis=1)
    return np.asarray(np.where(np.isinf(lowest), times, lowest))


def _accounted_for(stamps: Stamps, index: int, others: Stamps | None) -> bool:
    """Return whether the other streams' time stamps run on through a gap before packet ``index``:
    then the camera sent no frames, and the clock is the same."""
    if others is None or not len(others):
        return False
    begin, end = stamps.positions[index - 1], stamps.positions[index]
    start, stop = float(stamps.decoded[index - 1]), float(stamps.decoded[index])
    low, high = np.searchsorted(others.positions, [begin, end])
    times = others.decoded[low:high]
    inside = np.sort(times[(times > start) & (times < stop)])
    gaps = np.diff(np.concatenate([[start], inside, [stop]]))
    return bool(gaps.max() <= JUMP_AHEAD_SECONDS)


def follow(parts: Sequence[Part], starts_at: float) -> list[Part]:
    """Put the parts one after the other on the continued clock, the first at ``starts_at``.

    The clock of the part before is continued unchanged by a part that begins where it ends, as the
    next segment of a stream does, or after a gap of at most 10 s.
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
    """Return whether a new clock begins between two successive parts. A step back to the beginning
    of the part before is one even if that part is shorter than the tolerance."""
    if not part.leans and part.near(before.last).first <= before.first:
        return True
    step = _step(before, part)
    allowed = max(JUMP_AHEAD_SECONDS, _SLOW_FRAMES * before.frame_seconds)
    return not -STEP_BACK_SECONDS <= step + before.frame_seconds <= allowed + before.frame_seconds


def _step(before: Part, part: Part) -> float:
    """Return by how many seconds the clock jumps between two parts; negative if it jumps back.

    At a GOP boundary presentation times are compared. Within a GOP presentation order differs from
    packet order, so decoding times are compared.
    """
    part = part.near(before.last)
    if part.leans:
        return part.first_decoded - (before.last_decoded + before.frame_seconds)
    return part.first - (before.last + before.frame_seconds)


def discontinuities(parts: Sequence[Part]) -> tuple[Discontinuity, ...]:
    """Return where on the continued clock the file's own clock jumps, and by how much."""
    return tuple(
        Discontinuity(round(part.starts_at or 0.0, 6), round(_step(before, part), 6))
        for before, part in pairwise(parts)
        if is_discontinuous(before, part)
    )


def find_lead(parts: Sequence[Part], stamps: Sequence[Stamps], place: int) -> Lead | None:
    """Return the packets before part ``place`` that its first frames refer to. None if it begins
    with a key frame, no key frame is known, or the lead exceeds ``_MAX_LEAD``. ``stamps`` holds one
    entry per part."""
    if not parts[place].leans:
        return None
    placed = follow(parts, 0.0)
    clocks = [(part.starts_at or 0.0) - part.first for part in placed]
    positions: list[int] = []
    shifts: list[float] = []
    # Walk back to the last key frame, through as many parts as it takes.
    for before in range(place - 1, -1, -1):
        one = stamps[before]
        found = np.flatnonzero(one.keys) if one.keys is not None else np.empty(0, np.int64)
        first = int(found[-1]) if len(found) else 0
        positions.insert(0, int(one.positions[first]))
        shifts.insert(0, clocks[before] - clocks[place])
        end = parts[place - 1].byte_range.end
        if end - positions[0] > _MAX_LEAD:
            return None
        if len(found):
            return Lead(before, end, tuple(positions), tuple(shifts))
    return None
