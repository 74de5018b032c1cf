"""Video of an item: from a local folder, by download, or missing."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from smolvideo.credentials import without_credentials
from smolvideo.errors import SourceError
from smolvideo.evals.item import EvalItem
from smolvideo.evals.video_folder import MissingVideo, VideoFolder
from smolvideo.files import open_atomic
from smolvideo.json_types import parse_json
from smolvideo.progress import OnProgress, no_progress
from smolvideo.sanitize import display_name, display_path
from smolvideo.source import DownloadOptions, VideoSource, is_url, resolve_source
from smolvideo.text_input import read_regular

__all__ = [
    "ARCHIVE_NAME",
    "DownloadArchive",
    "FoundVideo",
    "MissingVideo",
    "VideoDownloader",
    "VideoFinder",
    "VideoFolder",
]

ARCHIVE_NAME = "downloads.jsonl"
MAX_ATTEMPTS = 3
"""Number of runs in which a download may fail; after that it is not tried again."""


@dataclass
class DownloadArchive:
    """Log of download attempts, one line each, so that dead links are not tried in every run."""

    path: Path
    failures: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "DownloadArchive":
        """Load the archive at ``path``; a truncated line is ignored."""
        archive = cls(path)
        try:
            lines = read_regular(path).decode("utf-8").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"cannot read {display_path(path)}: {error}") from error
        for line in lines:
            try:
                entry = parse_json(line)
                video, failed = str(entry["video"]), entry["error"] is not None
            except (ValueError, KeyError, TypeError):
                continue
            archive.failures[video] = archive.failures.get(video, 0) + 1 if failed else 0
        return archive

    def record_attempt(self, video: str, url: str, error: str | None) -> None:
        """Append an attempt; ``error`` is None if it succeeded."""
        self.failures[video] = self.failures.get(video, 0) + 1 if error is not None else 0
        line = json.dumps({"video": video, "url": without_credentials(url), "error": error})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as problem:
            raise SourceError(
                f"cannot write {display_path(self.path)}: {problem.strerror}"
            ) from problem


@dataclass
class VideoDownloader:
    """Downloads missing videos: at most one per ``min_interval_seconds``, each in at most
    ``MAX_ATTEMPTS`` runs.

    ``VideoFinder`` copies them into the folder under the benchmark's own name.
    """

    archive: DownloadArchive
    options: DownloadOptions
    min_interval_seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    stop: threading.Event = field(default_factory=threading.Event)
    _next_allowed: float = 0.0

    def fetch(self, item: EvalItem, on_progress: OnProgress) -> Path:
        """Download the video of ``item`` from its URL. Raises MissingVideo."""
        if item.url is None or not is_url(item.url):  # a local path must not be opened here
            raise MissingVideo(f"the video `{display_name(item.video)}` has no address")
        if self.archive.failures.get(item.video, 0) >= MAX_ATTEMPTS:
            raise MissingVideo(
                f"the video `{display_name(item.video)}` could not be fetched {MAX_ATTEMPTS} times",
                hint=f"delete its lines in {display_path(self.archive.path)} to try again",
            )
        self.stop.wait(max(0.0, self._next_allowed - self.clock()))
        if self.stop.is_set():
            raise MissingVideo("the run has ended before this video was fetched")
        try:
            (source,) = resolve_source(item.url, download=self.options, on_progress=on_progress)
        except SourceError as error:
            if not self.options.offline:
                self.archive.record_attempt(item.video, item.url, str(error))
            raise MissingVideo(str(error), hint=error.hint) from error
        finally:
            self._next_allowed = self.clock() + self.min_interval_seconds
        self.archive.record_attempt(item.video, item.url, None)
        return source.path


@dataclass(frozen=True)
class FoundVideo:
    """The video of an item: ``file`` is its path inside the folder of videos, or its file name;
    ``is_cut``: the file contains only the part that the item is about.
    """

    source: VideoSource
    file: str
    is_cut: bool = False


@dataclass
class VideoFinder:
    """Finds the video of an item in ``folder``, else by ``downloads`` if allowed."""

    folder: VideoFolder | None
    downloads: VideoDownloader | None = None

    def find(self, item: EvalItem, *, on_progress: OnProgress = no_progress) -> FoundVideo:
        """Return the video. Raises MissingVideo if there is none or the name is ambiguous,
        SourceError if the file is not a video.
        """
        path, name = self._in_folder(item)
        if path is None:
            if self.downloads is None:
                raise self._missing(item)
            path = self._kept(item, self.downloads.fetch(item, on_progress))
        (source, *more) = resolve_source(str(path))
        if more:
            raise SourceError(f"{display_path(path)} is a folder of several videos")
        inside = self.folder is not None and path.is_relative_to(self.folder.folder)
        file = self.folder.relative(source.path) if self.folder and inside else source.path.name
        return FoundVideo(source, file, is_cut=name in item.cut_names)

    def path(self, item: EvalItem) -> Path | None:
        """Return the file in the folder that ``find`` would use; None if it would be downloaded.

        Raises MissingVideo.
        """
        path, _ = self._in_folder(item)
        return path

    def subtitle_file(self, item: EvalItem, video: Path) -> Path | None:
        """Return the subtitle file of an item's video, if the folder has it.

        Raises MissingVideo if it is ambiguous.
        """
        return self.folder.find_subtitles(item.subtitle_names, video) if self.folder else None

    def _in_folder(self, item: EvalItem) -> tuple[Path | None, str | None]:
        """The file, and the name under which it was found."""
        if self.folder is None:
            return None, None
        names = () if is_url(item.video) else item.video_names
        for name in (*names, *((_unique_name(item.video),) if item.url else ())):
            path = self.folder.find((name,), foreign=item.foreign_folders)
            if path is not None:
                return path, name
        return None, None

    def _missing(self, item: EvalItem) -> MissingVideo:
        other = self.folder.alike(item.video_names) if self.folder else None
        return MissingVideo(
            f"the video `{display_name(item.video)}` is not in the folder",
            hint=f"{display_path(other)} is another one: it lies in another folder"
            if other
            else None,
        )

    def _kept(self, item: EvalItem, downloaded: Path) -> Path:
        """Copy a download into the folder under the benchmark's name, where later runs find it."""
        if self.folder is None:
            return downloaded
        kept = self.folder.folder / f"{item.video}{downloaded.suffix}"
        # On many systems names that differ in case alone are the same file.
        if _plain_name(item.video) != item.video or os.path.lexists(kept):
            kept = self.folder.folder / f"{_unique_name(item.video)}{downloaded.suffix}"
        try:
            with downloaded.open("rb") as source, open_atomic(kept, sync=False) as copy:
                shutil.copyfileobj(source, copy)
        except OSError as error:
            raise SourceError(f"cannot write {display_path(kept)}: {error.strerror}") from error
        self.folder.add(kept)
        return kept


def _plain_name(video: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in video).lstrip(".")[:150]


def _unique_name(video: str) -> str:
    """Return a file name without suffix that is unique for each video name.

    >>> _unique_name("https://example.org/a")
    'https___example.org_a-b5b10dd0'
    """
    digest = hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{_plain_name(video) or 'video'}-{digest[:8]}"
