"""Corruption tracking: which decoded frames come from broken packets, or refer to such frames.

Three signals are used: packets that the demuxer marks as incomplete, packets that fail to decode,
and frames that the decoder flags because it concealed errors (AV_FRAME_FLAG_CORRUPT). Any frame
decoded after one of these may refer to it, until the next key frame.
"""

from bisect import bisect_left, insort
from typing import Any

from smolvideo.frames import Damage
from smolvideo.readers.packet_times import packet_pts

_REMEMBERED = 512
"""Packets whose decoding order is remembered: far more than a decoder's reordering delay."""


class HarmTracker:
    """Tracks one decoder from a key frame, or the beginning, on. Truthy once damage was seen."""

    def __init__(self) -> None:
        self._fed = 0
        self._order: dict[int, tuple[int, int]] = {}  # PTS: (decoding index, its key frame's)
        self._last_key = 0
        self._bad: list[int] = []  # decoding indices of damage, ascending
        self._broken: set[int] = set()  # PTS of incomplete packets
        self._failed: list[int] = []  # PTS of packets that failed to decode
        self._damage: dict[int, Damage] = {}
        self._waiting: dict[int, int] = {}  # PTS of packets without a frame yet: decoding index
        self._shown_last = 0

    def __bool__(self) -> bool:
        return bool(self._bad)

    def fed(self, packet: Any) -> None:
        """Record a packet that is sent to the decoder."""
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
        """Record that the last packet failed to decode; before the first key frame all do."""
        ticks = packet_pts(packet)
        if self._last_key:
            self._bad.append(self._fed)
        if ticks is not None:
            self._failed.append(ticks)
            self._waiting.pop(ticks, None)

    def shown(self, frame: Any) -> None:
        """Record a frame that the decoder returns."""
        self._shown_last = frame.pts
        self._waiting.pop(frame.pts, None)
        if frame.is_corrupt or frame.pts in self._broken:
            insort(self._bad, self._order.get(frame.pts, (self._fed, 0))[0])
            self._damage[frame.pts] = "corrupt"

    def is_settled(self, frame: Any) -> bool:
        """Return whether every frame that ``frame`` can refer to was returned: a frame decoded
        earlier can be shown later."""
        decoding_index = self._order.get(frame.pts, (0, 0))[0]
        for ticks in [ticks for ticks in self._waiting if ticks < self._shown_last]:
            del self._waiting[ticks]  # later frames were returned: it will never be shown
        return all(other > decoding_index for other in self._waiting.values())

    def judge(self, frame: Any) -> None:
        """Determine the damage of a settled frame."""
        decoding_index, key = self._order.get(frame.pts, (self._fed, self._last_key))
        first = bisect_left(self._bad, key)
        if first < len(self._bad) and self._bad[first] <= decoding_index:
            self._damage.setdefault(frame.pts, "reference")

    def damage_of(self, frame: Any) -> Damage:
        """Return the damage of a frame that was judged."""
        return self._damage.get(frame.pts, "")

    def failed_between(self, first: float, last: float) -> bool:
        """Return whether a packet with a PTS in ``(first, last]`` failed to decode."""
        return any(first < ticks <= last for ticks in self._failed)
