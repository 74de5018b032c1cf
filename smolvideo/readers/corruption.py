"""Which decoded frames damage has reached: those of broken packets, and those that refer to them.

Three things are known: packets that the demuxer says are incomplete, packets that fail to decode,
and frames that the decoder flags because it had to make up parts of them (AV_FRAME_FLAG_CORRUPT).
Whatever is decoded after one of these may refer to it, until a key frame begins anew.
"""

from bisect import bisect_left, insort
from typing import Any

from smolvideo.frames import Damage
from smolvideo.readers.packet_times import packet_pts

_REMEMBERED = 512
"""Packets whose order of decoding is kept: far more than a decoder holds back."""


class HarmTracker:
    """Follows one decoder from a key frame, or the beginning, on; true when it met damage."""

    def __init__(self) -> None:
        self._fed = 0
        self._order: dict[int, tuple[int, int]] = {}  # pts: (place in decoding, of its key frame)
        self._last_key = 0
        self._bad: list[int] = []  # places in decoding, ascending
        self._broken: set[int] = set()  # appearances of incomplete packets
        self._failed: list[int] = []  # appearances of packets that did not decode
        self._damage: dict[int, Damage] = {}
        self._waiting: dict[int, int] = {}  # appearances of packets not shown: place in decoding
        self._shown_last = 0

    def __bool__(self) -> bool:
        return bool(self._bad)

    def fed(self, packet: Any) -> None:
        """A packet goes into the decoder."""
        ticks = packet_pts(packet)
        if not packet.size:
            return
        self._fed += 1
        if packet.is_keyframe:
            self._last_key = self._fed
        if ticks is not None:
            self._order[ticks] = self._fed, self._last_key
            self._waiting[ticks] = self._fed
            if len(self._order) > _REMEMBERED:
                self._order.pop(next(iter(self._order)))
        if packet.is_corrupt:
            self._bad.append(self._fed)
            if ticks is not None:
                self._broken.add(ticks)

    def failed(self, packet: Any) -> None:
        """The packet that was fed last did not decode; before the first key frame none can."""
        ticks = packet_pts(packet)
        if self._last_key:
            self._bad.append(self._fed)
        if ticks is not None:
            self._failed.append(ticks)
            self._waiting.pop(ticks, None)

    def shown(self, frame: Any) -> None:
        """A frame comes out of the decoder."""
        self._shown_last = frame.pts
        self._waiting.pop(frame.pts, None)
        if frame.is_corrupt or frame.pts in self._broken:
            insort(self._bad, self._order.get(frame.pts, (self._fed, 0))[0])
            self._damage[frame.pts] = "corrupt"

    def is_settled(self, frame: Any) -> bool:
        """Whether all that a frame can refer to has come out: what was decoded before it can be
        shown after it."""
        place = self._order.get(frame.pts, (0, 0))[0]
        for ticks in [ticks for ticks in self._waiting if ticks < self._shown_last]:
            del self._waiting[ticks]  # it will never be shown
        return all(other > place for other in self._waiting.values())

    def judge(self, frame: Any) -> None:
        """Find out what damage reached a settled frame."""
        place, key = self._order.get(frame.pts, (self._fed, self._last_key))
        first = bisect_left(self._bad, key)
        if first < len(self._bad) and self._bad[first] <= place:
            self._damage.setdefault(frame.pts, "reference")

    def damage_of(self, frame: Any) -> Damage:
        """What was found of a frame that came out."""
        return self._damage.get(frame.pts, "")

    def failed_between(self, first: float, last: float) -> bool:
        """Whether a packet failed that appears after ``first`` and not after ``last``."""
        return any(first < ticks <= last for ticks in self._failed)
