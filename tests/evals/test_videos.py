"""Videos of eval items: found by name, downloaded with pauses, missing ones counted."""

import json
import os
import threading
from pathlib import Path

import pytest
from support import downloading, hub_server
from support.downloading import QUICK
from support.webserver import Content

from smolvideo.errors import SourceError, UsageError
from smolvideo.evals.datasets import load_benchmark
from smolvideo.evals.datasets.registry import SCHEMAS
from smolvideo.evals.datasets.table_files import fetch_benchmark
from smolvideo.evals.item import EvalItem
from smolvideo.evals.videos import (
    MAX_ATTEMPTS,
    DownloadArchive,
    MissingVideo,
    VideoDownloader,
    VideoFinder,
    VideoFolder,
)
from smolvideo.progress import no_progress

clip = downloading.clip
server = downloading.server


def item(*names: str, url: str | None = None) -> EvalItem:
    return EvalItem("0", names, "?", ("x", "y"), 0, url=url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    videos = tmp_path / "videos"
    for name in (
        "abc-DEF_123.mp4",
        "deep/er/xyz.webm",
        "Heat_watch?v=xkBYe0lbD4A.mp4",
        "star/charades/ZS9XR.mp4",
        "ep/friends_07/0001.jpg",
        "subtitle/xyz.srt",
        ".hidden.mp4",
    ):
        path = videos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return videos


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["abc-DEF_123"], "abc-DEF_123.mp4"),
        (["xyz"], "deep/er/xyz.webm"),
        (["xyz.mp4"], "deep/er/xyz.webm"),
        (["gone", "Heat_watch?v=xkBYe0lbD4A"], "Heat_watch?v=xkBYe0lbD4A.mp4"),
        (["ZS9XR.mp4"], "star/charades/ZS9XR.mp4"),
        (["charades/ZS9XR.mp4"], "star/charades/ZS9XR.mp4"),
        (["friends_07"], "ep/friends_07"),
        (["xyz.srt"], "subtitle/xyz.srt"),
        (["ABC"], None),
        ([".hidden.mp4"], None),
        (["../../../../etc/passwd"], None),
        (["/etc/passwd"], None),
    ],
)
def test_candidate_names_are_tried_in_order(
    names: list[str], expected: str | None, folder: Path
) -> None:
    found = VideoFolder(folder).find(names)
    assert found == (folder / expected if expected else None)


def test_name_cannot_leave_the_folder(folder: Path) -> None:
    (folder.parent / "secret.mp4").write_bytes(b"x")
    assert VideoFolder(folder).find(["../secret.mp4"]) is None
    with pytest.raises(MissingVideo, match="is not in the folder"):
        VideoFinder(VideoFolder(folder)).find(item("../secret"))
    with pytest.raises(SourceError, match="no such folder"):
        VideoFolder(folder / "absent")


def downloads(folder: Path, **more: object) -> VideoDownloader:
    archive = DownloadArchive.open(folder / "downloads.jsonl")
    return VideoDownloader(archive, QUICK, **{"min_interval_seconds": 0.0, **more})  # type: ignore[arg-type]


def test_download_is_stored_in_the_folder(server, clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    finder = VideoFinder(VideoFolder(tmp_path), downloads(tmp_path))
    wanted = item("id-1", url=url)
    source = finder.find(wanted).source
    assert source.path == tmp_path / "id-1.mp4"
    assert source.path.read_bytes() == clip
    later = VideoFinder(VideoFolder(tmp_path))
    assert later.find(wanted).source.path == source.path
    (line,) = (tmp_path / "downloads.jsonl").read_text().splitlines()
    assert json.loads(line) == {"video": "id-1", "url": url, "error": None}


def test_hostile_download_names_are_sanitized(server, clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = server.serve("/clip.mp4", Content(clip, "video/mp4"))
    folder = tmp_path / "in"
    folder.mkdir()
    finder = VideoFinder(VideoFolder(folder), downloads(folder))
    assert finder.find(item("../../x\x1b[2J", url=url)).source.path.parent == folder


def test_dead_videos_are_not_requested_again(server, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    url = server.url("/dead.mp4")
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(MissingVideo, match="404"):
            downloads(tmp_path).fetch(item("dead", url=url), no_progress)
    asked = len(server.requests_for("/dead.mp4"))
    with pytest.raises(MissingVideo, match="could not be fetched 3 times") as raised:
        downloads(tmp_path).fetch(item("dead", url=url), no_progress)
    assert "downloads.jsonl" in str(raised.value.hint)
    assert 0 < len(server.requests_for("/dead.mp4")) == asked
    with pytest.raises(MissingVideo, match="no address"):
        downloads(tmp_path).fetch(item("dead"), no_progress)


def test_address_that_is_a_path_is_refused(clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "outside.mp4").write_bytes(clip)
    folder = tmp_path / "videos"
    folder.mkdir()
    for url in (str(tmp_path / "outside.mp4"), (tmp_path / "outside.mp4").as_uri()):
        with pytest.raises(MissingVideo, match="no address"):
            VideoFinder(VideoFolder(folder), downloads(folder)).find(item("x", url=url))


def test_download_names_are_unique(server, clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    names = ("a/b", "a_b", "a:b", "https://youtu.be/a_b")
    kept = {}
    for place, name in enumerate(names):
        url = server.serve(f"/{place}.mp4", Content(clip + bytes([place]), "video/mp4"))
        finder = VideoFinder(VideoFolder(tmp_path), downloads(tmp_path))
        kept[name] = finder.find(item(name, url=url)).source.path
    assert len(set(kept.values())) == len(names)
    finder = VideoFinder(VideoFolder(tmp_path))
    for place, name in enumerate(names):
        found = finder.find(item(name, url="https://example.org/x")).source.path
        assert found == kept[name]
        assert found.read_bytes() == clip + bytes([place])


class Waiting(threading.Event):
    """A simulated clock whose wait only advances it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        self.now += timeout or 0.0
        return True


def test_downloads_are_paced(server, clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    urls = [server.serve(f"/{n}.mp4", Content(clip, "video/mp4")) for n in range(3)]
    waiting = Waiting()
    polite = downloads(tmp_path, min_interval_seconds=30.0, clock=lambda: waiting.now, stop=waiting)
    polite.fetch(item("0", url=urls[0]), no_progress)
    waiting.now += 10.0
    polite.fetch(item("1", url=urls[1]), no_progress)
    waiting.now += 40.0
    polite.fetch(item("2", url=urls[2]), no_progress)
    assert waiting.waited == [0.0, 20.0, 0.0]


def test_ending_run_does_not_wait_for_downloads(server, clip, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    urls = [server.serve(f"/{n}.mp4", Content(clip, "video/mp4")) for n in range(2)]
    polite = downloads(tmp_path, min_interval_seconds=3600.0)
    polite.fetch(item("0", url=urls[0]), no_progress)
    polite.stop.set()
    with pytest.raises(MissingVideo, match="ended"):
        polite.fetch(item("1", url=urls[1]), no_progress)
    assert server.requests_for("/1.mp4") == []


def test_archive_with_a_partial_line(tmp_path: Path) -> None:
    path = tmp_path / "downloads.jsonl"
    path.write_text('{"video": "a", "url": "u", "error": "x"}\n3\n{"video": "a", "ur')
    assert DownloadArchive.open(path).failures == {"a": 1}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with hub_server.serve_hub() as running:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        cache = os.environ["HF_HOME"] + "/hub"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", cache)
        yield running


def test_questions_are_downloaded_from_the_hub(hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    repository = tmp_path / "repository"
    (repository / "json").mkdir(parents=True)
    entry = {"video": "a.mp4", "question": "q", "candidates": ["x", "y"], "answer": "y"}
    for task in ("action_count", "state_change"):
        (repository / "json" / f"{task}.json").write_text(json.dumps([entry]))
    (repository / "video.zip").write_bytes(b"large")
    hub.repositories["OpenGVLab/MVBench"] = repository
    path = fetch_benchmark("mvbench", SCHEMAS["mvbench"].hub)
    items = load_benchmark("mvbench", path).items
    assert [one.id for one in items] == ["action_count/0", "state_change/0"]
    assert "video.zip" not in hub.files()
    asked = len(hub.requests)
    assert fetch_benchmark("mvbench", SCHEMAS["mvbench"].hub, offline=True) == path
    assert len(hub.requests) == asked


def test_gated_and_missing_questions_are_errors(hub) -> None:  # type: ignore[no-untyped-def]
    hub.repositories["tomg-group-umd/cinepile"] = 403
    with pytest.raises(SourceError, match="gated") as raised:
        fetch_benchmark("cinepile", SCHEMAS["cinepile"].hub)
    assert "HF_TOKEN" in str(raised.value.hint)
    with pytest.raises(SourceError, match="no `lmms-lab/Video-MME`"):
        fetch_benchmark("video-mme", SCHEMAS["video-mme"].hub)
    with pytest.raises(SourceError, match="offline"):
        fetch_benchmark("egoschema", SCHEMAS["egoschema"].hub, offline=True)
    with pytest.raises(UsageError, match="no version `v9`"):
        fetch_benchmark("cinepile", SCHEMAS["cinepile"].hub, "v9")
