"""GOP decoding: from a key frame only what is wanted, and several GOPs in parallel.

The index of key frames gives the GOP of each wanted time. Packets, which are in decoding order, are
read until it is certain which one is on screen at that time. Non-reference frames before it are
skipped, and after the last wanted packet the decoder is flushed instead of fed further.

All this trusts the file. If a GOP does not yield exactly the frames that its packets announce,
``forward_decoder.py`` decodes those times again, which trusts less and decodes more.

All times are PTS in units of the stream's time base, on the container's own clock.

One decoder per GOP scales better than the frame threads of one decoder. With few GOPs, a single
background decoder with frame threads is used, which still overlaps with RGB conversion in the
calling thread.
"""

import errno
import math
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from smolvideo.readers.ipc import beat
from smolvideo.readers.packet_times import demuxed, has_index, index_to_pts_offset

MAX_REORDERED = 16
"""Maximum number of packets before one that is shown earlier, in H.264 (A.3.1) and HEVC (A.4.2).
Decoding times would be a tighter bound, but are wrong in some files."""


@dataclass
class Gop:
    """A group of pictures: ``seek_pts`` seeks to its key frame, or its byte ``position`` if known;
    ``wanted`` holds pairs of (index among all wanted times, PTS)."""

    seek_pts: int
    position: int | None = None
    wanted: list[tuple[int, float]] = field(default_factory=list)

    def seek(self, container: Any, stream: Any) -> None:
        """Seek to the key frame."""
        if self.position is None:
            container.seek(self.seek_pts, stream=stream)
        else:
            container.seek(self.position, stream=stream, unsupported_byte_offset=True)


def plan_by_positions(
    key_ticks: Sequence[int], positions: Sequence[int], ticks: Sequence[float]
) -> list[Gop]:
    """Group wanted times by GOP, with key frames at ascending ``key_ticks`` and known byte
    positions."""
    segments: list[Gop] = []
    for index, tick in enumerate(ticks):
        entry = max(0, bisect_right(key_ticks, tick) - 1)
        if not segments or segments[-1].position != positions[entry]:
            segments.append(Gop(key_ticks[entry], positions[entry]))
        segments[-1].wanted.append((index, tick))
    return segments


def plan_gops(container: Any, stream: Any, ticks: Sequence[float]) -> list[Gop] | None:
    """Group wanted times by GOP with the container's index, ascending; None without an index."""
    import av

    if not has_index(container):
        return None
    try:
        container.seek(math.floor(ticks[-1]), stream=stream)  # makes Matroska read its index
        index = stream.index_entries
        if not len(index):
            return None
        container.seek(index[0].timestamp, stream=stream)
    except av.error.FFmpegError:
        return None
    delay = index_to_pts_offset(container, stream)
    if delay is None:
        return None
    segments: list[Gop] = []
    entry_of_last = -1
    for place, tick in enumerate(ticks):
        entry = index.search_timestamp(math.floor(tick) - delay, backward=True)
        if entry < 0:
            entry = 0
        if not segments or entry != entry_of_last:
            segments.append(Gop(index[entry].timestamp + delay))
            entry_of_last = entry
        segments[-1].wanted.append((place, tick))
    return segments


def decode_key_frame(container: Any, stream: Any, segment: Gop) -> Iterator[tuple[int, Any]]:
    """Yield the key frame of a GOP for each of its wanted times."""
    segment.seek(container, stream)
    stream.codec_context.skip_frame = "DEFAULT"
    for packet in demuxed(container, stream):
        if not packet.is_keyframe or not packet.size:
            return
        frames = [*packet.decode(), *stream.codec_context.decode(None)]
        if frames and frames[0].pts == packet.pts and is_sound_key(frames[0]):
            for place, _ in segment.wanted:
                yield place, frames[0]
        return


def is_sound_key(frame: Any) -> bool:
    """Return whether a decoded frame is an intact key frame. The packet's flag is not enough:
    FFmpeg sets it on every packet of raw H.263 and H.261."""
    return bool(frame.key_frame and not frame.is_corrupt)


def decode_gop(container: Any, stream: Any, segment: Gop) -> Iterator[tuple[int, Any]]:
    """Yield ``(index, frame)`` in order; wanted times whose frame does not appear are left out.

    Raises av.error.FFmpegError if data is damaged, or the decoder flags a frame as corrupt.
    """
    segment.seek(container, stream)
    yield from _SegmentDecoder(container, stream).frames(segment)


class _SegmentDecoder:
    """Decodes one GOP. Buffers wanted frames until they are fetched, and decoded frames until it is
    known whether they are wanted: at most the reordering depth."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._context = stream.codec_context
        self._packets = (packet for packet in demuxed(container, stream) if packet.size)
        self._queue: deque[Any] = deque()  # packets read, not decoded yet
        self._ahead: list[int] = []  # PTS of packets read that are after the wanted time
        self._best: int | None = None  # PTS of the packet on screen at the wanted time
        self._promised: deque[tuple[int, int]] = deque()  # (index, PTS) of expected frames
        self._decoded: deque[Any] = deque()
        self._found: deque[tuple[int, Any]] = deque()  # (index, frame)
        self._last: Any = None
        self._key: int | None = None  # PTS of the first packet
        self._begun = False

    def frames(self, segment: Gop) -> Iterator[tuple[int, Any]]:
        for place, tick in segment.wanted:
            if not self._choose(tick):
                break
            assert self._best is not None
            self._promised.append((place, self._best))
            while any(packet.pts == self._best for packet in self._queue):
                self._feed(self._queue.popleft(), tick)
            yield from self._fetched()
        else:
            self._take(self._context.decode(None))
        yield from self._fetched()

    def _fetched(self) -> Iterator[tuple[int, Any]]:
        self._match_expected()
        while self._found:
            yield self._found.popleft()

    def _choose(self, tick: float) -> bool:
        """Read packets until it is certain which one is on screen at ``tick``; False if it is
        not determinable."""
        self._best = max((pts for pts in self._ahead if pts <= tick), default=self._best)
        self._ahead = [pts for pts in self._ahead if pts > tick]
        while len(self._ahead) <= MAX_REORDERED:
            packet = next(self._packets, None)
            if packet is None:
                return self._best is not None
            beat()
            if packet.pts is None or (self._best is None and not packet.is_keyframe):
                return False
            self._key = packet.pts if self._key is None else self._key
            self._queue.append(packet)
            if packet.pts > tick:
                self._ahead.append(packet.pts)
            elif not packet.is_discard and (self._best is None or packet.pts > self._best):
                self._best = packet.pts
                while self._queue[0] is not packet:
                    self._feed(self._queue.popleft(), tick)
            if self._best is None and packet.is_keyframe and packet.pts > tick:
                return False
        return self._best is not None

    def _feed(self, packet: Any, tick: float) -> None:
        """Decode a packet; a frame before the wanted one only if others refer to it."""
        gone_by = packet.pts <= tick and packet.pts != self._best
        self._context.skip_frame = "NONREF" if gone_by else "DEFAULT"
        self._take(packet.decode())

    def _take(self, frames: Sequence[Any]) -> None:
        import av

        if frames and not self._begun:
            self._begun = True
            if not frames[0].key_frame and frames[0].pts == self._key:
                raise av.error.InvalidDataError(errno.EINVAL, "the first frame is no key frame")
        if any(frame.is_corrupt for frame in frames):
            raise av.error.InvalidDataError(errno.EINVAL, "the decoder flags a frame as corrupt")
        self._decoded.extend(frames)
        self._match_expected()
        if not self._promised and self._best is not None:
            self._forget_before(self._best)

    def _forget_before(self, pts: int) -> None:
        """Free frames before the wanted one, which are large and many."""
        while self._decoded and (self._decoded[0].pts or 0) < pts:
            self._decoded.popleft()

    def _match_expected(self) -> None:
        """Match decoded frames with the expected PTS as they come, so that none is held longer."""
        while self._promised:
            place, pts = self._promised[0]
            if self._last is None or self._last.pts != pts:
                self._forget_before(pts)
                if not self._decoded:
                    return
                if self._decoded[0].pts != pts:  # the expected frame was never returned
                    self._promised.popleft()
                    continue
                self._last = self._decoded.popleft()
            self._promised.popleft()
            self._found.append((place, self._last))


Decode = Callable[[Any, Any, Gop], Iterator[tuple[int, Any]]]
"""Decodes ``(container, stream, GOP)`` to pairs of (index of the wanted time, frame)."""

_WAIT_SECONDS = 0.5


class ParallelSegmentDecoder:
    """Decodes ``segments`` (GOPs) in ``lanes`` threads, each with its own container from ``open_``.

    At most ``max_buffered`` frames per GOP are buffered, and decoding runs at most ``2 * lanes``
    GOPs ahead of the one that is consumed.
    """

    def __init__(
        self,
        open_: Callable[[], tuple[Any, Any]],
        decode: Decode,
        segments: Sequence[Gop],
        *,
        lanes: int,
        max_buffered: int,
    ) -> None:
        self._open = open_
        self._decode = decode
        self._segments = segments
        self._lanes = lanes
        self._room = max_buffered
        self._changed = threading.Condition()
        self._ready: list[deque[tuple[int, Any]]] = [deque() for _ in segments]
        self._ended = [False] * len(segments)
        self._next = 0  # index of the next GOP to decode
        self._head = 0  # index of the GOP being consumed
        self._stopped = False
        self._failure: BaseException | None = None

    def frames(self) -> Iterator[tuple[int, Any]]:
        """Yield ``(index of the wanted time, frame)`` in order; undecodable ones are left out."""
        threads = [
            threading.Thread(target=self._run, name=f"decode {lane}", daemon=True)
            for lane in range(self._lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            for head in range(len(self._segments)):
                with self._changed:
                    self._head = head
                    self._changed.notify_all()
                while (found := self._fetch(head)) is not None:
                    yield found
        finally:
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _fetch(self, segment: int) -> tuple[int, Any] | None:
        ready = self._ready[segment]
        with self._changed:
            while not ready and not self._ended[segment]:
                if self._failure is not None:
                    raise self._failure
                self._changed.wait(_WAIT_SECONDS)
            if not ready:
                return None
            self._changed.notify_all()
            return ready.popleft()

    def _run(self) -> None:
        try:
            container, stream = self._open()
            with container:
                while (number := self._take()) is not None:
                    self._decode_one(number, container, stream)
        except BaseException as error:  # raised again in the consumer's thread
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _take(self) -> int | None:
        with self._changed:
            while not self._stopped and self._next > self._head + 2 * self._lanes:
                self._changed.wait(_WAIT_SECONDS)
            if self._stopped or self._next >= len(self._segments):
                return None
            self._next += 1
            return self._next - 1

    def _decode_one(self, number: int, container: Any, stream: Any) -> None:
        import av

        ready = self._ready[number]
        try:
            for found in self._decode(container, stream, self._segments[number]):
                with self._changed:
                    while len(ready) >= self._room and not self._stopped:
                        self._changed.wait(_WAIT_SECONDS)
                    if self._stopped:
                        return
                    ready.append(found)
                    self._changed.notify_all()
        except av.error.FFmpegError:  # damaged: the consumer decodes what is missing otherwise
            pass
        finally:
            with self._changed:
                self._ended[number] = True
                self._changed.notify_all()
