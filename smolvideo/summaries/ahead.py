"""Videos decoded ahead of the model: a few threads, a few videos, a few windows of each.

Every item has a short queue of its own, and so many items are begun as ``videos``: memory does not
grow with the list, however slow the model is. What comes out comes in the order of the list.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

Item = TypeVar("Item")
Piece = TypeVar("Piece")

_LOOK_AGAIN_SECONDS = 0.2
"""Windows delivers Ctrl-C only between two waits."""
_PIECES_OF_ITEM = 2


class _End:
    """The last thing in an item's queue: nothing more comes, or why."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Pieces(Generic[Piece]):
    """The pieces of one item, in order; iterating raises what looking at it raised.

    Once ``dropped`` nobody wants the rest of them.
    """

    def __init__(self, ahead: "Ahead[Item, Piece]") -> None:
        self._ahead = ahead
        self.queue: queue.Queue[Piece | _End] = queue.Queue(_PIECES_OF_ITEM)
        self.dropped = False

    def drop(self) -> None:
        """Let the thread that looks at the item go on to the next one."""
        self.dropped = True
        with suppress(queue.Empty):
            while True:
                self.queue.get_nowait()

    def __iter__(self) -> Iterator[Piece]:
        while True:
            piece = self._ahead.wait_for(self.queue)
            if isinstance(piece, _End):
                if piece.error is not None:
                    raise piece.error
                return
            yield piece


class Ahead(Generic[Item, Piece]):
    """Runs ``look`` over items in threads; iterate it for ``(item, pieces)`` pairs, in order.

    What the consumer leaves of an item's pieces when it takes the next item is dropped.

    A context manager: leaving it stops the threads at their next piece. ``waited_seconds`` is how
    long the consumer had nothing to do, ``busy_seconds`` how long the threads worked. Items may be
    None: nothing to do right now, ask again in a moment.
    """

    def __init__(
        self,
        items: Iterable[Item | None],
        look: Callable[[Item], Iterator[Piece]],
        *,
        threads: int,
        videos: int,
    ) -> None:
        self._items = iter(items)
        self._look = look
        self._videos = max(videos, 1)
        self._tasks: queue.Queue[tuple[Item, Pieces[Piece]] | None] = queue.Queue()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.waited_seconds = 0.0
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            # A decoder cannot be interrupted inside a frame; whoever pressed Ctrl-C does not wait.
            thread.join(timeout=None if error is None else 1.0)

    def __iter__(self) -> Iterator[tuple[Item, Pieces[Piece]]]:
        begun: deque[tuple[Item, Pieces[Piece]]] = deque()
        there_is_more = True
        while begun or there_is_more:
            while there_is_more and len(begun) < self._videos:
                try:
                    item = next(self._items)
                except StopIteration:
                    there_is_more = False
                    break
                if item is None:
                    break
                task = item, Pieces[Piece](self)
                begun.append(task)
                self._tasks.put(task)
            if begun:
                item, pieces = begun.popleft()
                yield item, pieces
                pieces.drop()
            elif there_is_more:
                time.sleep(_LOOK_AGAIN_SECONDS)

    def wait_for(self, pieces: "queue.Queue[Piece | _End]") -> "Piece | _End":
        """The next piece; what nobody decoded yet is time that the model waited."""
        started = time.perf_counter()
        try:
            while True:
                try:
                    return pieces.get(timeout=_LOOK_AGAIN_SECONDS)
                except queue.Empty:
                    continue
        finally:
            self.waited_seconds += time.perf_counter() - started

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stopped.is_set():
            item, pieces = task
            self._put(pieces, _End(self._look_at(item, pieces)))

    def _look_at(self, item: Item, pieces: Pieces[Piece]) -> BaseException | None:
        found = self._look(item)
        while not (self._stopped.is_set() or pieces.dropped):
            started = time.perf_counter()
            try:
                piece = next(found)
            except StopIteration:
                return None
            except BaseException as error:  # raised again where the pieces are iterated
                return error
            finally:
                with self._lock:
                    self.busy_seconds += time.perf_counter() - started
            self._put(pieces, piece)
        return None

    def _put(self, pieces: Pieces[Piece], piece: "Piece | _End") -> None:
        while not (self._stopped.is_set() or pieces.dropped):
            try:
                pieces.queue.put(piece, timeout=_LOOK_AGAIN_SECONDS)
                return
            except queue.Full:
                continue
