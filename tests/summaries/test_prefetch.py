"""Prefetching of items by threads: in order, bounded, and free of deadlocks when items are
abandoned.
"""

import threading
from collections.abc import Iterator

import pytest

from smolvideo.summaries.prefetch import Prefetcher

PATIENCE_SECONDS = 60.0


def look(item: int) -> Iterator[tuple[int, int]]:
    for piece in range(6):
        yield item, piece


def consume(ahead: Prefetcher[int, tuple[int, int]], pieces_of_each: int) -> list[tuple[int, int]]:
    taken = []
    for _, pieces in ahead:
        for number, piece in enumerate(pieces):
            taken.append(piece)
            if number + 1 == pieces_of_each:
                break
    return taken


def test_pieces_come_in_the_order_of_the_items() -> None:
    with Prefetcher(range(20), look, threads=3, max_items=4) as ahead:
        assert consume(ahead, 99) == [(item, piece) for item in range(20) for piece in range(6)]


@pytest.mark.parametrize("wanted", [1, 3])
def test_abandoned_pieces_block_no_thread(wanted: int) -> None:
    """Each abandoned item used to block one thread forever, and the run hung after as many as
    threads.
    """
    with Prefetcher(range(40), look, threads=2, max_items=3) as ahead:
        taken: list[tuple[int, int]] = []
        worker = threading.Thread(target=lambda: taken.extend(consume(ahead, wanted)), daemon=True)
        worker.start()
        worker.join(PATIENCE_SECONDS)
        assert not worker.is_alive()
    assert taken == [(item, piece) for item in range(40) for piece in range(wanted)]


def test_no_more_items_are_started_than_max_items() -> None:
    begun: list[int] = []

    def note(item: int) -> Iterator[int]:
        begun.append(item)
        yield item

    with Prefetcher(range(100), note, threads=4, max_items=3) as ahead:
        for item, pieces in ahead:
            assert list(pieces) == [item]
            assert max(begun) <= item + 3


def test_error_is_raised_at_its_item() -> None:
    def fail(item: int) -> Iterator[int]:
        yield item
        raise ValueError(item)

    with Prefetcher(range(2), fail, threads=1, max_items=2) as ahead:
        for item, pieces in ahead:
            with pytest.raises(ValueError, match=str(item)):
                list(pieces)


def test_none_items_are_skipped() -> None:
    items = iter([None, 1, None, None, 2])
    with Prefetcher(items, look, threads=1, max_items=2) as ahead:
        assert {item for item, _ in consume(ahead, 1)} == {1, 2}
