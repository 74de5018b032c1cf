"""Parallel GOP decoding: several decoders work on different GOPs, frames are returned in order.

One decoder per GOP scales better than the frame threads of one decoder. With few GOPs, a single
background decoder with frame threads is used, which still overlaps with RGB conversion in the
calling thread.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from smolvideo.readers.gop import Gop

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
