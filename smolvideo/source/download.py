"""Download of an http(s) URL into the cache through yt-dlp, monitored by its progress hook.

Audio is not needed, so a single file with video suffices, nothing is merged, and no ffmpeg program
is used. yt-dlp prints nothing (we pass a logger), reads no configuration, gets cookies as text so
that it cannot rewrite the file, and can only reach http(s) hosts.

Options of yt-dlp: https://github.com/yt-dlp/yt-dlp, the docstring of ``YoutubeDL``.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolvideo.credentials import WebAddress
from smolvideo.errors import SmolVideoError, SourceError
from smolvideo.progress import OnProgress, Progress
from smolvideo.sanitize import display_name
from smolvideo.source.download_cache import (
    CachedDownload,
    cache_dir,
    delete_corrupt,
    download_folder,
    find_cached,
    lock_download_folder,
    write_entry,
)
from smolvideo.source.http_only import web_client
from smolvideo.source.urls import check_address, checked_entry, display_url
from smolvideo.source.video_source import describe_non_media
from smolvideo.source.ytdlp import to_source_error, ytdlp_options

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


@dataclass(frozen=True)
class DownloadOptions:
    """Options of a download.

    ``max_filesize`` is in bytes. ``max_height`` limits the smaller side of the video in pixels: the
    largest format within it is chosen, or the smallest above if there is none within. ``cookies``
    is a file in Netscape format; ``cookies_from_browser`` is ``BROWSER[+KEYRING][:PROFILE]
    [::CONTAINER]`` as for yt-dlp. ``timeout_seconds`` is the timeout of a silent server.
    """

    cookies: Path | None = None
    cookies_from_browser: str | None = None
    max_filesize: int | None = None
    max_height: int | None = 720
    cache_dir: Path | None = None
    offline: bool = False
    timeout_seconds: float = 20.0
    retries: int = 3


def download_video(
    url: str, options: DownloadOptions, on_progress: OnProgress, *, named_by: str | None = None
) -> CachedDownload:
    """Return the file of ``url`` from the cache, downloading it if necessary.

    ``named_by`` is the URL of the list that named it, if any. A partial download is resumed.
    ``KeyboardInterrupt`` is passed on and leaves the partial file.

    Raises:
        SourceError: no valid URL, not in the cache while ``offline``, or the download failed.
        UsageError: cookies of an unknown browser.
    """
    check_address(url)
    folder = download_folder(url, options.cache_dir)

    def in_cache() -> CachedDownload | None:
        return find_cached(
            url,
            max_height=options.max_height,
            offline=options.offline,
            cache=options.cache_dir,
        )

    def say_waiting() -> None:
        on_progress(Progress("download", label=f"another process downloads {display_url(url)}"))

    found = in_cache()
    if found is not None:
        return found
    if options.offline:
        raise SourceError(
            f"{display_url(url)} is not in the download cache, and offline nothing is fetched",
            hint="run it once without `--offline`",
        )
    with lock_download_folder(folder, say_waiting):
        # Another process may have finished the download while we waited for the lock.
        found = in_cache()
        if found is not None:
            return found
        delete_corrupt(folder)
        return _download(url, named_by or url, folder, options, on_progress)


def _download(
    url: str, named_by: str, folder: Path, options: DownloadOptions, on_progress: OnProgress
) -> CachedDownload:
    label = display_url(url).strip("`")
    on_progress(Progress("download", label=label))
    transfer = DownloadMonitor(url, folder, options.max_filesize, label, on_progress)
    try:
        try:
            return _fetch(url, named_by, folder, options, transfer)
        except RemoteFileChanged:
            transfer.delete_partial_files()
            return _fetch(url, named_by, folder, options, transfer)
    except UnusableDownloadError:
        transfer.delete_partial_files()
        raise
    except SmolVideoError:
        raise
    except Exception as error:  # thousands of extractors, without a common error class
        raise to_source_error(url, error, timeout_seconds=options.timeout_seconds) from error


def _fetch(
    url: str, named_by: str, folder: Path, options: DownloadOptions, transfer: DownloadMonitor
) -> CachedDownload:
    address = WebAddress(url)
    messages: list[str] = []
    settings = ytdlp_options(
        folder=folder,
        yt_dlp_cache=(options.cache_dir or cache_dir()) / "yt-dlp",
        cookies=options.cookies,
        cookies_from_browser=options.cookies_from_browser,
        max_height=options.max_height,
        timeout_seconds=options.timeout_seconds,
        retries=options.retries,
        logger=_Listener(messages),
        progress_hook=transfer,
    )
    with web_client(settings, named_by) as ydl:
        # yt-dlp's own method would expand "$" and "~" in the cache path.
        ydl.get_output_path = lambda _, name: str(folder / name)
        info = _one_video(ydl, url)
        _refuse_unfit(url, info)
        transfer.check_size(info.get("filesize"))
        # A title may contain the URL, or a part of it.
        title = address.hide_in(str(info.get("title") or ""))
        transfer.label = display_name(title or transfer.label)
        info = ydl.process_ie_result(info, download=True)
    path = _downloaded_path(info)
    if path is None:
        reason = messages[-1] if messages else "yt-dlp brought no file"
        raise to_source_error(url, reason, timeout_seconds=options.timeout_seconds)
    transfer.check_finished(path)
    return write_entry(
        url,
        path,
        title=title or path.name,
        height=_smaller_side(info),
        max_height=options.max_height,
    )


class _Listener:
    """Logger that collects yt-dlp's messages: some failures raise no exception."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def debug(self, message: str) -> None:
        if not message.startswith("[debug] "):
            self._said.append(message)

    info = warning = error = debug


def _one_video(ydl: Any, url: str) -> dict[str, Any]:
    """Return yt-dlp's information on the one video at a URL, following pages with one embedded
    video."""
    address = url
    for _ in range(3):
        info = ydl.extract_info(address, download=False)
        if info is None:
            break
        if info.get("_type", "video") == "video":
            return dict(info)
        entries = [entry for entry in info.get("entries") or () if entry]
        if len(entries) > 1:
            raise SourceError(
                f"{display_url(url)} is a list of videos, not one",
                hint="give the address of one of them",
            )
        if not entries:
            break
        if entries[0].get("_type", "video") == "video":
            return dict(entries[0])
        address = checked_entry(entries[0], url)
    raise SourceError(
        f"no video found at {display_url(url)}", hint="give the address of the video itself"
    )


def _refuse_unfit(url: str, info: dict[str, Any]) -> None:
    if info.get("is_live") or info.get("live_status") == "is_live":
        raise SourceError(
            f"{display_url(url)} is a live stream, which has no end",
            hint="wait until it is over and the site offers the recording",
        )
    if info.get("live_status") == "is_upcoming":
        raise SourceError(f"{display_url(url)} has not begun yet")


def _downloaded_path(info: dict[str, Any]) -> Path | None:
    downloads = info.get("requested_downloads") or [{}]
    path = Path(downloads[0].get("filepath") or "")
    return path if path.is_file() else None


def _smaller_side(info: dict[str, Any]) -> int | None:
    """Return the smaller side in pixels, the quantity that yt-dlp's ``res`` sorts by."""
    sides = [side for side in (info.get("height"), info.get("width")) if side]
    return int(min(sides)) if sides else None
