"""Work lists: sources on the command line become a list of videos, listed once or watched."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.webserver import Content, WebServer

from smolvideo.errors import UsageError
from smolvideo.source import DownloadOptions, Entry, playlist_entries
from smolvideo.summaries import Selection, WorkItem, list_items, watch, watch_folder
from smolvideo.summaries.watch_folder import (
    SETTLE_SECONDS,
    UNTOLD_SECONDS,
    FolderChanges,
    watched_folders,
)

OLD, NEW = 1_000_000_000.0, 1_700_000_000.0

FEED = """<?xml version="1.0"?><rss version="2.0"><channel><title>Talks</title>
<item><title>One</title><link>{one}</link></item>
<item><title>Two</title><link>{two}</link></item>
</channel></rss>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "videos"
    for name in ("b.mp4", "a10.mp4", "a9.mkv", "sub/deep/c.mp4", "cover.jpg", "sub/.hidden.mp4"):
        file = base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\0\0\0\x18ftypisom" + name.encode())
        os.utime(file, (OLD, OLD))
    os.utime(base / "b.mp4", (NEW, NEW))
    return base


def names(items: list[WorkItem]) -> list[str]:
    return [item.relative.as_posix() for item in items]


def test_folder_is_listed_recursively(folder: Path) -> None:
    items = list_items([folder])
    assert names(items) == ["a9.mkv", "a10.mp4", "b.mp4", "sub/deep/c.mp4"]
    assert items[0].path == str(folder / "a9.mkv")
    assert all(item.error is None for item in items)


def test_each_video_is_listed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    items = list_items(["b.mp4", str(folder), "./b.mp4", "sub/../b.mp4"])
    assert names(items) == ["b.mp4", "a9.mkv", "a10.mp4", "sub/deep/c.mp4"]


def test_glob_patterns_are_expanded(folder: Path) -> None:
    assert names(list_items([str(folder / "a*.m*")])) == ["a9.mkv", "a10.mp4"]
    assert names(list_items([str(folder / "**" / "*.mp4")])) == ["a10.mp4", "b.mp4", "c.mp4"]
    literal = folder / "x[1].mp4"
    literal.write_bytes(b"\0\0\0\x18ftypisom")
    assert names(list_items([str(literal)])) == ["x[1].mp4"]


def test_missing_source_is_an_item_with_its_error(folder: Path) -> None:
    missing, pattern, good = list_items(
        [str(folder / "none.mp4"), str(folder / "*.avi"), str(folder / "b.mp4")]
    )
    assert "no such file" in str(missing.error)
    assert "nothing matches" in str(pattern.error)
    assert good.error is None


def test_newer_than_shuffle_and_limit(folder: Path) -> None:
    assert names(list_items([folder], Selection(newer_than=OLD + 1))) == ["b.mp4"]
    drawn = [names(list_items([folder], Selection(shuffle=seed))) for seed in range(6)]
    assert all(sorted(one) == sorted(drawn[0]) for one in drawn)
    assert len({tuple(one) for one in drawn}) > 1
    assert names(list_items([folder], Selection(shuffle=3))) == drawn[3]
    assert names(list_items([folder], Selection(shuffle=3, limit=2))) == drawn[3][:2]
    with pytest.raises(UsageError, match="newer-than"):
        list_items(["https://example.org/x"], Selection(newer_than=OLD))


def test_playlist_is_listed_as_its_videos() -> None:
    with WebServer() as server:
        one, two = server.url("/one.mp4"), server.url("/two.mp4")
        feed = FEED.format(one=one, two=two).encode()
        url = server.serve("/feed", Content(feed, "application/rss+xml"))
        items = list_items([url])
        assert [item.path for item in items] == [one, two]
        assert playlist_entries(one, DownloadOptions(), lambda _: None) == [Entry(one)]
        assert server.requests_for("/one.mp4") == []


def test_offline_requests_no_address() -> None:
    with WebServer() as server:
        url = server.serve("/feed", Content(b"", "application/rss+xml"))
        (item,) = list_items([url], download=DownloadOptions(offline=True))
        assert item.path == url
        assert server.requests_for("/feed") == []


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += SETTLE_SECONDS / 8
        return self.now


def test_watched_file_is_listed_once_it_stops_growing(folder: Path) -> None:
    growing, clock = folder / "new.mp4", Clock()
    watched = watch(lambda: list_items([folder]), clock=clock)
    found: list[str] = []

    def look(steps: int) -> None:
        for _ in range(steps):
            item = next(watched)
            if item is not None:
                found.append(item.relative.as_posix())

    look(40)
    assert found == ["a9.mkv", "a10.mp4", "b.mp4", "sub/deep/c.mp4"]
    for size in range(12):
        growing.write_bytes(b"\0\0\0\x18ftypisom" + b"x" * size)
        look(4)
    assert len(found) == 4, "it grew all the time"
    look(40)
    assert found[4:] == ["new.mp4"]
    growing.write_bytes(b"\0\0\0\x18ftypisom, and later something else")
    look(40)
    assert found[4:] == ["new.mp4", "new.mp4"], "what changes is done anew"


class Told:
    """Folder changes that the test reports by setting ``changed``."""

    def __init__(self, *, works: bool = True) -> None:
        self.works, self.changed = works, False

    def take(self) -> bool:
        changed, self.changed = self.changed, False
        return changed


def given(watched: Iterator[WorkItem | None], steps: int) -> list[str]:
    return [item.name for item in itertools.islice(watched, steps) if item is not None]


def test_folder_is_listed_only_after_a_change(folder: Path) -> None:
    clock, told, listings = Clock(), Told(), []

    def listed() -> list[WorkItem]:
        listings.append(clock.now)
        return list_items([folder])

    watched = watch(listed, changes=told, clock=clock)
    assert len(given(watched, 200)) == 4
    begun = clock.now
    for _ in range(200):
        assert next(watched) is None
    seconds = clock.now - begun
    assert len([at for at in listings if at > begun]) <= seconds / UNTOLD_SECONDS + 1
    (folder / "new.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    told.changed = True
    assert given(watched, 20) == ["new.mp4"]
    told.works = False  # a limit of the system was reached: polled from now on
    (folder / "newer.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    assert given(watched, 20) == ["newer.mp4"]


def test_polling_interval_grows_with_the_cost_of_listing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listing takes at most a fiftieth of the time, by a simulated clock."""
    clock, cost, listings = Clock(), [0.0], []

    def listed() -> list[WorkItem]:
        listings.append(clock.now)
        cost[0] += 0.2
        return []

    monkeypatch.setattr(watch_folder.time, "perf_counter", lambda: cost[0])
    watched = watch(listed, changes=Told(works=False), clock=clock)
    for _ in range(400):
        assert next(watched) is None
    pauses = [after - before for before, after in itertools.pairwise(listings)]
    assert 10.0 <= min(pauses) <= max(pauses) < 12.0


def test_changes_in_subfolders_are_reported(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    with FolderChanges([str(tmp_path / "sub")]) as changes:
        assert changes.works
        for number in range(2):  # at the second one the observer has certainly started
            until(lambda number=number: touched(tmp_path / "sub/deep", number) or changes.take())
        (tmp_path / "beside.mp4").write_bytes(b"x")
    assert not any(thread.is_alive() for thread in changes._threads)


def touched(folder: Path, number: int) -> None:
    """Change a file in ``folder``."""
    (folder / f"{number}.mp4").write_bytes(os.urandom(8))


def until(happens: Callable[[], object]) -> None:
    """Wait until ``happens`` returns true; another thread makes it true."""
    while not happens():
        time.sleep(0.02)


def test_unwatchable_folder_is_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refuse)
    with FolderChanges([str(tmp_path)]) as changes:
        until(lambda: not changes.works)
    assert not FolderChanges(["https://e.org/a.mp4"]).works


def test_watched_folders_are_those_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "films [2024]" / "a").mkdir(parents=True)
    (tmp_path / "one.mp4").write_bytes(b"x")
    trees, parents = watched_folders(
        [
            str(tmp_path / "films [2024]"),
            str(tmp_path / "films [2024]" / "a" / "*.mp4"),
            str(tmp_path / "one.mp4"),
            str(tmp_path / "two.mp4"),
            "https://example.org/feed",
        ]
    )
    assert trees == [tmp_path / "films [2024]", tmp_path / "films [2024]" / "a"]
    assert parents == [tmp_path]


def test_watching_stops_at_the_limit_and_waits_in_an_empty_folder(tmp_path: Path) -> None:
    clock = Clock()
    watched = watch(lambda: list_items([tmp_path]), limit=1, clock=clock)
    assert [next(watched) for _ in range(20)] == [None] * 20
    (tmp_path / "x.mp4.part").write_bytes(b"half")
    assert [next(watched) for _ in range(20)] == [None] * 20
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x18ftypisom")
    assert [item.relative.as_posix() for item in watched if item] == ["x.mp4"]
