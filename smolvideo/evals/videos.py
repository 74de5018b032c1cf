"""Where the video of an item is: in a local folder, in the downloads, or nowhere."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from smolvideo.errors import SourceError
from smolvideo.evals.item import EvalItem
from smolvideo.progress import OnProgress, no_progress
from smolvideo.safe_text import clean_name, show_path
from smolvideo.source import VIDEO_SUFFIXES, DownloadOptions, VideoSource, resolve_source

ARCHIVE_NAME = "downloads.jsonl"
TRIES = 3
"""A video that could not be fetched in so many runs is not asked for again."""


class MissingVideo(SourceError):
    """The video of an item is not to be had: counted, and no reason to stop."""


class VideoFolder:
    """The files of a folder and its subfolders, found by the names that benchmarks use.

    Names out of a benchmark's file are looked up among what lies in the folder; they never become
    paths, so nothing outside can be reached.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise SourceError(f"no such folder: {show_path(folder)}")
        self._by_name: dict[str, Path] = {}
        for parent, subfolders, files in os.walk(folder):
            subfolders.sort()
            for name in (*sorted(files), *subfolders):
                if not name.startswith("."):
                    self._add(Path(parent) / name)

    def _add(self, path: Path) -> None:
        relative = path.relative_to(self.folder)
        names = [relative.as_posix(), path.name]
        if path.suffix.lower() in VIDEO_SUFFIXES:
            names += [relative.with_suffix("").as_posix(), path.stem]
        for name in names:
            self._by_name.setdefault(name, path)

    def add(self, path: Path) -> None:
        """A file that has come into the folder since."""
        self._add(path)

    def find(self, names: Iterable[str]) -> Path | None:
        """The first of ``names`` that lies there, with its suffix or without."""
        for name in names:
            path = PurePosixPath(name.replace("\\", "/"))
            stem = path.with_suffix("") if path.suffix.lower() in VIDEO_SUFFIXES else path
            for known in (path.as_posix(), path.name, stem.as_posix(), stem.name):
                if known in self._by_name:
                    return self._by_name[known]
        return None


@dataclass
class DownloadArchive:
    """What was tried before, one line a try, so that dead videos are not asked for every time."""

    path: Path
    failures: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "DownloadArchive":
        """The archive at ``path``; a line that was cut short does not count."""
        archive = cls(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"cannot read {show_path(path)}: {error}") from error
        for line in lines:
            try:
                entry = json.loads(line)
                video, failed = str(entry["video"]), entry["error"] is not None
            except (ValueError, KeyError, TypeError):
                continue
            archive.failures[video] = archive.failures.get(video, 0) + 1 if failed else 0
        return archive

    def remember(self, video: str, url: str, error: str | None) -> None:
        """Write a try down; ``error`` is None for one that brought the video."""
        self.failures[video] = self.failures.get(video, 0) + 1 if error is not None else 0
        line = json.dumps({"video": video, "url": url, "error": error})
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as problem:
            raise SourceError(
                f"cannot write {show_path(self.path)}: {problem.strerror}"
            ) from problem


@dataclass
class Downloads:
    """How missing videos are fetched: at most one every ``every_seconds``, each tried in few runs.

    What comes is laid into the folder under the benchmark's own name.
    """

    archive: DownloadArchive
    options: DownloadOptions
    every_seconds: float = 5.0
    clock: Callable[[], float] = time.monotonic
    stop: threading.Event = field(default_factory=threading.Event)
    _next: float = 0.0

    def fetch(self, item: EvalItem, on_progress: OnProgress) -> Path:
        """The video of ``item`` from its address. Raises MissingVideo."""
        if item.url is None:
            raise MissingVideo(f"the video `{clean_name(item.video)}` has no address")
        if self.archive.failures.get(item.video, 0) >= TRIES:
            raise MissingVideo(
                f"the video `{clean_name(item.video)}` could not be fetched {TRIES} times",
                hint=f"delete its lines in {show_path(self.archive.path)} to try again",
            )
        self.stop.wait(max(0.0, self._next - self.clock()))
        if self.stop.is_set():
            raise MissingVideo("the run has ended before this video was fetched")
        try:
            (source,) = resolve_source(item.url, download=self.options, on_progress=on_progress)
        except SourceError as error:
            if not self.options.offline:
                self.archive.remember(item.video, item.url, str(error))
            raise MissingVideo(str(error), hint=error.hint) from error
        finally:
            self._next = self.clock() + self.every_seconds
        self.archive.remember(item.video, item.url, None)
        return source.path


@dataclass
class VideoFinder:
    """The source of an item's video: from ``folder``, else by ``downloads`` where wanted."""

    folder: VideoFolder | None
    downloads: Downloads | None = None

    def source(self, item: EvalItem, *, on_progress: OnProgress = no_progress) -> VideoSource:
        """Raises MissingVideo where there is none, SourceError for a file that is no video."""
        path = self.folder.find(item.video_names) if self.folder else None
        if path is None:
            if self.downloads is None:
                raise MissingVideo(f"the video `{clean_name(item.video)}` is not in the folder")
            path = self._kept(item, self.downloads.fetch(item, on_progress))
        (source, *more) = resolve_source(str(path))
        if more:
            raise SourceError(f"{show_path(path)} is a folder of several videos")
        return source

    def subtitle_file(self, item: EvalItem) -> Path | None:
        """The subtitle file that belongs to an item, if the folder has it."""
        return self.folder.find(item.subtitle_names) if self.folder else None

    def _kept(self, item: EvalItem, downloaded: Path) -> Path:
        """The download under the benchmark's name in the folder: found at once the next time."""
        if self.folder is None:
            return downloaded
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.video).lstrip(".")
        kept = self.folder.folder / f"{name[:150] or 'video'}{downloaded.suffix}"
        beside = kept.with_name(f".{kept.name}.part")
        try:
            shutil.copyfile(downloaded, beside)
            os.replace(beside, kept)
        except OSError as error:
            raise SourceError(f"cannot write {show_path(kept)}: {error.strerror}") from error
        self.folder.add(kept)
        return kept
