"""Prefetch: decode videos in a few threads while the model runs.

Every item has its own bounded queue, and at most ``max_items`` items are in progress, so memory
does not grow with the list, however slow the model is. Items come out in list order.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Chunk = TypeVar("Chunk")

_LOOK_AGAIN_SECONDS = 0.2
"""Timeout of each wait: Windows delivers Ctrl-C only between two of them."""
_PIECES_OF_ITEM = 2


class _End:
    """End marker of an item's queue, with the error that ended it if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class PrefetchedItem(Generic[Chunk]):
    """The chunks of one item, in order; iterating re-raises the error of its thread.

    ``dropped`` is set when the consumer has cancelled the rest.
    """

    def __init__(self, ahead: "Prefetcher[Item, Chunk]") -> None:
        self._ahead = ahead
        self.queue: queue.Queue[Chunk | _End] = queue.Queue(_PIECES_OF_ITEM)
        self.dropped = False

    def cancel(self) -> None:
        """Drop the remaining chunks, so that the thread continues with the next item."""
        self.dropped = True
        with suppress(queue.Empty):
            while True:
                self.queue.get_nowait()

    def __iter__(self) -> Iterator[Chunk]:
        while True:
            piece = self._ahead.next_chunk(self.queue)
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece


class Prefetcher(Generic[Item, Chunk]):
    """Runs ``look`` over items in threads; iterate it for ``(item, chunks)`` pairs, in order.

    Chunks that the consumer has not read when it takes the next item are dropped.

    A context manager: leaving it stops the threads at their next chunk. ``stall_seconds`` is how
    long the consumer waited, ``busy_seconds`` how long the threads worked. An item of None means
    that no item is available yet; the iterator is polled again.
    """

    def __init__(
        self,
        items: Iterable[Item | None],
        look: Callable[[Item], Iterator[Chunk]],
        *,
        threads: int,
        max_items: int,
    ) -> None:
        self._items = iter(items)
        self._look = look
        self._videos = max(max_items, 1)
        self._tasks: queue.Queue[tuple[Item, PrefetchedItem[Chunk]] | None] = queue.Queue()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.stall_seconds = 0.0
        self.busy_seconds = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"decode {number}", daemon=True)
            for number in range(max(threads, 1))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        self._stopped.set()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            # A decoder cannot be interrupted inside a frame; after Ctrl-C it is not awaited.
            thread.join(timeout=None if error is None else 1.0)

    def __iter__(self) -> Iterator[tuple[Item, PrefetchedItem[Chunk]]]:
        begun: deque[tuple[Item, PrefetchedItem[Chunk]]] = deque()
        there_is_more = True
        while begun or there_is_more:
            # Start items up to the limit.
            while there_is_more and len(begun) < self._videos:
                try:
                    item = next(self._items)
                except StopIteration:
                    there_is_more = False
                    break
                if item is None:
                    break
                task = item, PrefetchedItem[Chunk](self)
                begun.append(task)
                self._tasks.put(task)
            # Yield the oldest one; its other chunks are dropped afterwards.
            if begun:
                item, pieces = begun.popleft()
                yield item, pieces
                pieces.cancel()
            elif there_is_more:
                time.sleep(_LOOK_AGAIN_SECONDS)

    def next_chunk(self, pieces: "queue.Queue[Chunk | _End]") -> "Chunk | _End":
        """Wait for the next chunk; the wait counts as ``stall_seconds``."""
        started = time.perf_counter()
        try:
            while True:
                try:
                    return pieces.get(timeout=_LOOK_AGAIN_SECONDS)
                except queue.Empty:
                    continue
        finally:
            self.stall_seconds += time.perf_counter() - started

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped.is_set():
            item, pieces = task
            self._put(pieces, _End(self._look_at(item, pieces)))

    def _look_at(self, item: Item, pieces: PrefetchedItem[Chunk]) -> BaseException | None:
        found = self._look(item)
        while not (self._stopped.is_set() or pieces.dropped):
            started = time.perf_counter()
            try:
                piece = next(found)
            except StopIteration:
                return None
            except BaseException as error:  # re-raised where the chunks are iterated
                return error
            finally:
                with self._lock:
                    self.busy_seconds += time.perf_counter() - started
            self._put(pieces, piece)
        return None

    def _put(self, pieces: PrefetchedItem[Chunk], piece: "Chunk | _End") -> None:
        while not (self._stopped.is_set() or pieces.dropped):
            try:
                pieces.queue.put(piece, timeout=_LOOK_AGAIN_SECONDS)
                return
            except queue.Full:
                continue
