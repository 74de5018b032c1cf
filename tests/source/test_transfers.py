"""Download options and the download monitor, without a server."""

from pathlib import Path

import pytest
from support.clipmaker import evenly, write_clip

from smolvideo.errors import SourceError
from smolvideo.source import lists
from smolvideo.source.download import DownloadMonitor, RemoteFileChanged
from smolvideo.source.ytdlp import _seconds_before_retry, ytdlp_options


def options(folder: Path) -> dict[str, object]:
    return ytdlp_options(
        folder=folder,
        yt_dlp_cache=folder / "cache",
        cookies=None,
        cookies_from_browser=None,
        max_height=720,
        timeout_seconds=5,
        retries=2,
        logger=None,
        progress_hook=None,
    )


def test_address_of_a_video_in_a_playlist_is_the_video(tmp_path: Path) -> None:
    """For ``watch?v=…&list=…`` yt-dlp needs ``noplaylist``."""
    assert options(tmp_path)["noplaylist"] is True


def test_retry_delays_grow_up_to_eight_seconds() -> None:
    assert [_seconds_before_retry(n) for n in range(7)] == [0.5, 1, 2, 4, 8, 8, 8]


def begin(transfer: DownloadMonitor, total: int) -> None:
    transfer({"status": "downloading", "total_bytes": total, "downloaded_bytes": 1})


def test_stored_size_is_deleted_after_a_finished_download(tmp_path: Path) -> None:
    def transfer() -> DownloadMonitor:
        return DownloadMonitor("https://a.b/v.mp4", tmp_path, None, "v", lambda _: None)

    begin(transfer(), 100)
    begin(transfer(), 100)
    with pytest.raises(RemoteFileChanged):
        begin(transfer(), 101)
    clip = write_clip(tmp_path / "video.mp4", evenly(5, 5)).path
    done = transfer()
    begin(done, 100)
    done.check_finished(clip)
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]
    begin(transfer(), 101)


def test_playlist_may_be_as_large_as_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a.mp4\nb.mp4\n"
    path = tmp_path / "list.txt"
    path.write_text(text)
    monkeypatch.setattr(lists, "_MAX_LIST_BYTES", len(text))
    assert len(lists.read_source_list(path)) == 2
    monkeypatch.setattr(lists, "_MAX_LIST_BYTES", len(text) - 1)
    with pytest.raises(SourceError, match="too large for a list"):
        lists.read_source_list(path)
