"""yt-dlp progress hook: reports progress, enforces the size limit, and rejects non-video files."""

import contextlib
from pathlib import Path
from typing import Any

from smolvideo.errors import SourceError
from smolvideo.progress import OnProgress, Progress
from smolvideo.source.urls import display_url
from smolvideo.source.video_source import describe_non_media

_HEAD_BYTES = 4096
_SNIFF_BYTES = 2**16
"""Bytes after which the head of the file is flushed to disk and can be read back."""


class UnusableDownloadError(SourceError):
    """The partial file cannot be resumed or used."""


class RemoteFileChanged(Exception):
    """The file on the server is not the one that was partly downloaded."""


class DownloadMonitor:
    """Called by yt-dlp for every block (progress hook); an exception aborts the download.

    The size announced by the server is checked at the start; without one, the received bytes are
    counted, as yt-dlp's own limit only checks the announcement. The announced size is stored, so
    that a partial file is never resumed with another file's bytes.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        max_filesize: int | None,
        label: str,
        on_progress: OnProgress,
    ) -> None:
        self.label = label
        self._url = url
        self._folder = folder
        self._max_filesize = max_filesize
        self._on_progress = on_progress
        self._size_note = folder / "size-when-begun"
        self._began = False
        self._judged = False

    def __call__(self, status: dict[str, Any]) -> None:
        if status.get("status") not in ("downloading", "finished"):
            return
        total = status.get("total_bytes")
        done = status.get("downloaded_bytes") or total or 0
        self.check_size(total)
        self.check_size(done)
        if status["status"] == "downloading":
            self._begin(total)
            if done > _SNIFF_BYTES and not self._judged:
                self._check_content_type(_head(Path(status["tmpfilename"])))
        self._on_progress(
            Progress("download", done, total or status.get("total_bytes_estimate"), self.label)
        )

    def check_size(self, size: int | None) -> None:
        if self._max_filesize is not None and size is not None and size > self._max_filesize:
            limit = _megabytes(self._max_filesize)
            raise UnusableDownloadError(
                f"{display_url(self._url)} is larger than the limit of {limit}",
                hint="raise `--max-filesize`, or take a smaller picture with `--max-height`",
            )

    def check_finished(self, path: Path) -> None:
        """Reject and delete a finished file that is certainly no video."""
        try:
            self._check_content_type(_head(path))
        except UnusableDownloadError:
            path.unlink()
            raise
        self._size_note.unlink(missing_ok=True)

    def delete_partial_files(self) -> None:
        for path in self._folder.iterdir():
            if ".part" in path.name or path.suffix == ".ytdl":
                # Windows cannot delete a file that yt-dlp still has open.
                with contextlib.suppress(PermissionError):
                    path.unlink()
        self._size_note.unlink(missing_ok=True)
        self._began = self._judged = False

    def _begin(self, total: int | None) -> None:
        if self._began:
            return
        self._began = True
        if total is None:
            return
        if self._size_note.exists() and self._size_note.read_text(encoding="ascii") != str(total):
            raise RemoteFileChanged
        self._size_note.write_text(str(total), encoding="ascii")

    def _check_content_type(self, head: bytes) -> None:
        # Empty at first: a fragment is appended only when it is complete.
        self._judged = bool(head)
        what = describe_non_media(head)
        if what is not None:
            raise UnusableDownloadError(
                f"{display_url(self._url)} is {what}, not a video",
                hint="give the address of the video itself",
            )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size:,} bytes"
