"""Forward decoder with seeking, by time without the file's index, that tracks corrupt frames.

Three signals are used: packets that the demuxer marks as incomplete, packets that fail to decode,
and frames that the decoder flags because it concealed errors (AV_FRAME_FLAG_CORRUPT). Any frame
decoded after one of these may refer to it, until the next key frame.

All times are PTS in units of the stream's time base, on the container's own clock.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from typing import Any

from smolvideo.frames import Damage
from smolvideo.readers.gop import MAX_REORDERED
from smolvideo.readers.packet_times import demux_tolerant, has_index, nominal_seconds, packet_pts

_REMEMBERED = 512
"""Packets whose decoding order is remembered: far more than a decoder's reordering delay."""


class DamageTracker:
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


_SEEK_BACKOFFS = (0.0, 1.0, 5.0, 30.0)
"""Seconds before the wanted time to which to seek, in order of trial."""
_UNKNOWN_KEY_INTERVAL = 5.0
"""Assumed seconds between key frames, until the stream shows longer intervals."""
_MIN_SEEK_GAIN = 0.3
"""Seconds of decoding that a seek must save, since it empties the decoder's frame threads."""
_MAX_PACKETS_WITHOUT_A_FRAME = 5000
"""Consecutive packets without a decoded frame after which the stream is given up."""
_MAX_GAP_SECONDS = 1.0
"""Seconds for which the last frame replaces damaged ones after it."""


class ForwardDecoder:
    """Returns the decoded frame on screen at ascending times; an earlier time costs a seek back.

    ``reopen`` opens a new container and returns it with its stream, set up to decode with the given
    number of threads (None: as many as are useful). Reopening is the one way back to the beginning
    that every format supports.

    A decoder with several frame threads loses whole frames around an error, and those still in
    flight when the data end in one. It is therefore only used until damage is detected; then
    decoding restarts with one thread, whose frames are the ones returned.
    """

    def __init__(self, reopen: Callable[[int | None], tuple[Any, Any]]) -> None:
        self._reopen = reopen
        self._threads: int | None = None
        self.container, self.stream = reopen(None)
        self._tick = float(self.stream.time_base)
        self._longest_key_interval = _UNKNOWN_KEY_INTERVAL
        self.untimed = False
        """Whether the packets carry no time stamps, so that seeking by time is impossible."""
        self._current: Any = None
        self._upcoming: Any = None
        self._decoded: Generator[Any] = self._decode(iter(()), None)
        self._start_over_with(demux_tolerant(self.container, self.stream), trusted_from=None)
        self._decode_alone_if_damaged()

    def close(self) -> None:
        self._decoded.close()
        if self.container is not None:
            self.container.close()
        # FFmpeg's decoder threads live as long as the stream is referenced.
        self.container = self.stream = None
        self._current = self._upcoming = None

    # ------------------------------------------------------------------ current position

    def first(self) -> Any | None:
        """Return the next frame without consuming it; initially, the first decodable frame."""
        return self._upcoming

    def frame_at(self, ticks: float) -> Any | None:
        """Return the frame on screen at ``ticks``, or None if it was lost to damage."""
        frame = self._frame_at(ticks)
        return self._frame_at(ticks) if self._decode_alone_if_damaged() else frame

    def damage_of(self, frame: Any) -> Damage:
        """Return the known damage of the frame returned last."""
        return self._damage.damage_of(frame)

    def _decode_alone_if_damaged(self) -> bool:
        """Restart with one thread if several threads have detected damage."""
        if self._threads == 1 or not self._damage:
            return False
        self._threads = 1
        self._rewind()
        return True

    def _frame_at(self, ticks: float) -> Any | None:
        current = self._current if self._current is not None else self._upcoming
        if current is None:
            return None
        is_past = self._current is not None and self._current.pts > ticks
        if is_past or (self._upcoming is not None and self._jump_pays(ticks)):
            self._jump(ticks)
        while self._upcoming is not None and self._upcoming.pts <= ticks:
            self._current, self._upcoming = self._upcoming, next(self._decoded, None)
        frame = self._current if self._current is not None else self._upcoming
        return None if self._lost(frame, ticks) else frame

    def _lost(self, frame: Any | None, ticks: float) -> bool:
        if frame is None:
            return True
        stale = (ticks - frame.pts) * self._tick > _MAX_GAP_SECONDS
        return stale and self._damage.failed_between(frame.pts, ticks)

    # ------------------------------------------------------------------ sequential decoding

    def _start_over_with(self, packets: Iterator[Any], trusted_from: int | None) -> None:
        self._damage = DamageTracker()
        self._last_key: int | None = None
        self._current = None
        self._decoded = self._decode(packets, trusted_from)
        self._upcoming = next(self._decoded, None)

    def _decode(self, packets: Iterator[Any], trusted_from: int | None) -> Generator[Any]:
        """Yield frames in presentation order, once their damage is known."""
        held: deque[Any] = deque()
        for frame in self._decode_all(packets, trusted_from):
            held.append(frame)
            # With several threads damage only needs to be detected, so nothing is delayed.
            while held and (
                self._threads != 1 or len(held) > MAX_REORDERED or self._damage.is_settled(held[0])
            ):
                yield self._judged(held.popleft())
        yield from map(self._judged, held)

    def _judged(self, frame: Any) -> Any:
        self._damage.judge(frame)
        return frame

    def _decode_all(self, packets: Iterator[Any], trusted_from: int | None) -> Iterator[Any]:
        """Yield frames in presentation order.

        Frames before ``trusted_from``, the key frame after a seek, are dropped: they refer to
        frames that were not decoded.
        """
        latest: int | None = None if trusted_from is None else trusted_from - 1
        fruitless = 0
        for packet in packets:
            self._learn_key_interval(packet)
            frames = self._frames_of(packet)
            fruitless = 0 if frames else fruitless + 1
            if fruitless > _MAX_PACKETS_WITHOUT_A_FRAME:
                return
            for frame in frames:
                if frame.pts is None:
                    self.untimed = self.untimed or latest is None
                    frame.pts = self._guessed_ticks(latest)
                if latest is None or frame.pts > latest:
                    latest = frame.pts
                    self._damage.shown(frame)
                    yield frame

    def _frames_of(self, packet: Any) -> list[Any]:
        import av

        if not packet.size and packet_pts(packet) is not None:
            return []  # empty packet: repeats the last frame (Theora, AVI), or would flush decoders
        self._damage.fed(packet)
        try:
            frames: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.error.FFmpegError:
            self._damage.failed(packet)
            return []
        return frames

    def _guessed_ticks(self, latest: int | None) -> int:
        """Return the next PTS of a raw stream, which has none, at the nominal frame rate."""
        if latest is None:
            return 0
        return latest + max(1, round(nominal_seconds(self.stream) / self._tick))

    def _learn_key_interval(self, packet: Any) -> None:
        ticks = packet_pts(packet)
        if not packet.is_keyframe or ticks is None:
            return
        if self._last_key is not None:
            seconds = (ticks - self._last_key) * self._tick
            self._longest_key_interval = max(self._longest_key_interval, seconds)
        self._last_key = ticks

    # ------------------------------------------------------------------ seeking

    def _jump_pays(self, ticks: float) -> bool:
        """Return whether a later key frame is far enough ahead to seek, by the index, or else by
        the longest key interval seen."""
        assert self._upcoming is not None
        if self.untimed:
            return False
        ahead = (ticks - self._upcoming.pts) * self._tick
        if ahead < _MIN_SEEK_GAIN:
            return False
        index = self.stream.index_entries
        if has_index(self.container) and len(index) and index[len(index) - 1].timestamp >= ticks:
            entry = index.search_timestamp(int(ticks), backward=True)
            if entry >= 0:
                saved = (index[entry].timestamp - self._upcoming.pts) * self._tick
                return bool(saved > _MIN_SEEK_GAIN)
        return bool(ahead > self._longest_key_interval + _MIN_SEEK_GAIN)

    def _jump(self, ticks: float) -> None:
        """Seek to a key frame at or before ``ticks`` and verify it by decoding; else rewind."""
        for back in () if self.untimed else _SEEK_BACKOFFS:
            if self._seek_verified(ticks, round(ticks - back / self._tick)):
                return
        self._rewind()

    def _seek_verified(self, wanted: float, seek_to: int) -> bool:
        import av

        try:
            self.container.seek(seek_to, stream=self.stream)
        except av.error.FFmpegError:
            return False
        packets = demux_tolerant(self.container, self.stream)
        for packet in packets:
            ticks = packet_pts(packet)
            if ticks is None or (not packet.is_keyframe and ticks <= wanted):
                continue
            if not packet.is_keyframe or ticks > wanted:
                return False
            self._start_over_with(chain((packet,), packets), trusted_from=ticks)
            first = self._upcoming
            if first is None or (first.pts == ticks and not first.key_frame):
                return False
            return bool(first.pts <= wanted)
        return False

    def _rewind(self) -> None:
        self.close()
        self.container, self.stream = self._reopen(self._threads)
        self._start_over_with(demux_tolerant(self.container, self.stream), trusted_from=None)
