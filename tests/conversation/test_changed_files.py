"""Tampered caches, conversations and locks reach nothing outside their folders."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conversation import test_kept_conversations
from conversation.test_kept_conversations import CIRCLE, keep, resumed
from support import downloading, talking
from support.downloading import QUICK
from support.webserver import Content

from smolvideo.conversation import store
from smolvideo.conversation.event_log import frames_path, read_event_log
from smolvideo.engines.feature_cache import KEY_BYTES, FeatureCache
from smolvideo.errors import RecordError
from smolvideo.files import file_lock
from smolvideo.source import clear_downloads, find_cached, resolve_source
from smolvideo.source.download_cache import download_folder

clip = downloading.clip
server = downloading.server
stack = test_kept_conversations.stack

no_links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


@pytest.fixture
def downloaded(server, clip) -> tuple[str, Path]:  # type: ignore[no-untyped-def]
    """Return a downloaded address and its folder in the cache."""
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    resolve_source(url, download=QUICK)
    return url, download_folder(url)


def entry_of(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "entry.json").read_text())
    assert isinstance(content, dict)
    return content


@pytest.mark.parametrize(
    "changes",
    [
        {"path": ".."},
        {"path": "../../outside.mp4"},
        {"path": ""},
        {"path": "a\0b"},
        {"path": 3},
        {"title": ["x"]},
        {"time": "yesterday"},
        {"size": "1"},
        {"height": 1.5},
    ],
)
def test_malformed_cache_entry_is_a_miss(
    changes: dict[str, Any], downloaded: tuple[str, Path]
) -> None:
    url, folder = downloaded
    assert find_cached(url) is not None
    (folder.parent / "outside.mp4").write_bytes(b"x" * entry_of(folder)["size"])
    (folder / "entry.json").write_text(json.dumps(entry_of(folder) | changes))
    assert find_cached(url) is None


def test_replaced_download_is_fetched_again(
    downloaded: tuple[str, Path],
    server,  # type: ignore[no-untyped-def]
    clip: bytes,
) -> None:
    url, folder = downloaded
    file = folder / entry_of(folder)["path"]
    os.utime(file, (1, 1))
    assert find_cached(url) is not None, "the same bytes with another time"
    file.write_bytes(clip[::-1])
    assert find_cached(url) is None
    resolve_source(url, download=QUICK)
    assert (folder / entry_of(folder)["path"]).read_bytes() == clip


@no_links
def test_symlinks_in_the_download_cache_are_not_followed(
    downloaded: tuple[str, Path], clip: bytes, tmp_path: Path
) -> None:
    url, folder = downloaded
    outside = tmp_path / "outside"
    shutil.copytree(folder, outside)
    video = outside / entry_of(outside)["path"]
    inside = folder / video.name
    inside.unlink()
    inside.symlink_to(video)
    assert find_cached(url) is None
    resolve_source(url, download=QUICK)
    assert not inside.is_symlink()
    assert video.exists()
    shutil.rmtree(folder)
    folder.symlink_to(outside)
    (outside / "entry.json").write_text("{}")
    assert find_cached(url) is None
    resolve_source(url, download=QUICK)
    assert video.read_bytes() == clip, "what is damaged elsewhere is not cleared away"
    assert not folder.is_symlink()
    folder.with_name("0" * 24).symlink_to(outside)
    clear_downloads()
    assert video.exists()


@no_links
def test_symlinks_in_the_feature_cache_are_not_followed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features", limit_bytes=10**6)
    key, payload = bytes(range(KEY_BYTES)), bytearray(b"p" * 5000)
    cache.write(key, memoryview(payload))
    entry = next(path for path in cache.folder.rglob("*") if path.name == key.hex())
    outside = tmp_path / "outside"
    shutil.move(entry, outside)
    entry.symlink_to(outside)
    into = bytearray(5000)
    assert not cache.read(key, memoryview(into))
    entry.unlink()
    os.mkfifo(entry)
    assert not cache.read(key, memoryview(into)), "and nobody waits for a writer"
    (ledger,) = (path for path in cache.folder.iterdir() if path.is_file())
    ledger.unlink()
    ledger.symlink_to(outside)
    before = outside.read_bytes()
    cache.write(key, memoryview(payload))
    assert outside.read_bytes() == before
    assert cache.read(key, memoryview(into))


@no_links
def test_lock_that_is_a_symlink_creates_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError), file_lock(tmp_path / "a.lock", on_contention=None):  # noqa: PT011
        pass
    assert not (tmp_path / "made").exists()


@no_links
def test_event_log_that_is_a_symlink_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    name, _ = keep(CIRCLE)
    folder = store.conversation_folder(name)
    outside = tmp_path / "outside.jsonl"
    shutil.move(folder / "journal.jsonl", outside)
    (folder / "journal.jsonl").symlink_to(outside)
    with pytest.raises(RecordError, match="is a link"):
        resumed(stack, name)
    (folder / "journal.jsonl").unlink()
    shutil.move(outside, folder / "journal.jsonl")
    picture = frames_path(folder, 1)
    shutil.move(picture, tmp_path / "frames.png")
    picture.symlink_to(tmp_path / "frames.png")
    again, notes, _ = resumed(stack, name)
    assert (len(again.attachments), notes) == (1, []), "decoded again"


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "../../x"},
        {"number": 1.5},
        {"source": {"given": "x", "path": "a\0b", "kind": "video", "name": "x"}},
        {"source": {"given": "x", "path": ["x"], "kind": "video", "name": "x"}},
        {"source": {"given": "x", "path": "x", "kind": "device", "name": "x"}},
        {"source": {"given": "x", "path": "x", "kind": "video", "name": 3}},
        {"sha256": None},
        {"shape": [1, 2, "3", 4]},
        {"pts_seconds": ["now"]},
        {"metadata": {"width": "wide", "height": 1, "duration_seconds": 1}},
        {"window": [0]},
        {"size": "large"},
    ],
)
def test_malformed_event_log_is_an_error(changes: dict[str, Any]) -> None:
    name, _ = keep(CIRCLE)
    journal = store.conversation_folder(name) / "journal.jsonl"
    lines = []
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        if "look" in event:
            event["look"] |= changes
        lines.append(json.dumps(event))
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError, match="is damaged at line"):
        read_event_log(journal.parent)


def test_frames_of_a_changed_file_are_reported(stack: ExitStack, tmp_path: Path) -> None:
    video = tmp_path / "v.mp4"
    shutil.copyfile(CIRCLE, video)
    name, _ = keep(video)
    shutil.copyfile(test_kept_conversations.TRIANGLE, video)
    again, notes, _ = resumed(stack, name)
    assert notes == ["`v.mp4` has changed since: its frames are those of before"]
    assert talking.ask(again, "What moves?")
