"""What agents can ask: a question about a video, where a moment is, what a file or folder holds.

A web page may have instructed an agent what to open, so only files of allowed folders are read.
Open videos are kept, so that the next question about one prefills only its own words.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from smolvideo.answer import Answer
from smolvideo.engines import Engine
from smolvideo.errors import SourceError, UsageError
from smolvideo.files import file_state
from smolvideo.formatting import format_clock
from smolvideo.index import SearchOptions, SearchScope, VideoSearch, default_index_path, open_scope
from smolvideo.media_types import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_order
from smolvideo.pipeline import call_in_thread, stop_when
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import PromptOptions
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, RelativeTime, parse_time
from smolvideo.sanitize import display_name
from smolvideo.source import VideoSource, resolve_source
from smolvideo.video import Video

_MAX_OPEN = 4
_MAX_LISTED = 200
_MAX_SCANNED = 400
"""Windows of videos in no index that one call may look at: minutes on a laptop."""


class VideoTools:
    """The tools over one engine, which ``load`` loads with the first question. Thread-safe.

    ``folders`` are those whose files may be opened. ``sampling.max_frames`` is a ceiling. ``index``
    is the index file that ``find_in_videos`` searches, None for none.
    """

    def __init__(
        self,
        load: Callable[[OnProgress], Engine],
        folders: Sequence[Path],
        *,
        sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
        prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
        reader: str = "auto",
        index: Path | None = None,
    ) -> None:
        self._load = load
        self._index = index
        self._folders = [Path(os.path.realpath(folder)) for folder in folders]
        self._sampling = sampling
        self._prompt_options = prompt_options
        self._reader = reader
        self._engine: Engine | None = None
        self._videos: OrderedDict[object, Video] = OrderedDict()
        self._lock = threading.RLock()

    def close(self) -> None:
        """Free the videos and the engine."""
        with self._lock:
            while self._videos:
                self._videos.popitem()[1].close()
            if self._engine is not None:
                self._engine.close()

    async def ask_video(
        self,
        path: str,
        question: str,
        *,
        start: str | None = None,
        end: str | None = None,
        max_frames: int | None = None,
        choices: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Answer ``question``, with the times of the frames that were seen; ``choices`` get a
        probability each.

        Cancelling the task stops the work. Raises SmolVideoError.
        """
        sampling = self._sampling_of(start, end, max_frames)
        cancelled = threading.Event()
        check = stop_when(cancelled, no_progress)

        def work() -> tuple[Video, Answer]:
            with self._lock:
                video = self._open(path, sampling, check)
                if choices:
                    return video, video.choose(question, list(choices), on_progress=check)
                return video, video.ask(question, on_progress=check)

        video, answer = await call_in_thread(work, None, cancelled)
        return _answer_json(video, answer)

    async def video_info(self, path: str) -> dict[str, Any]:
        """Return duration, size and rate of a video, or the videos of a folder.

        Raises SmolVideoError.
        """
        return await call_in_thread(lambda: self._info(path), None, threading.Event())

    async def find_in_videos(
        self, query: str, path: str | None = None, *, limit: int = 5
    ) -> dict[str, Any]:
        """Return the moments that show ``query``: file, start, end, score and note of each.

        ``path`` is a file or a folder; without it the indexed videos of all allowed folders are
        searched. Cancelling the task stops the work. Raises SmolVideoError.
        """
        options = SearchOptions(limit=max(1, min(limit, _MAX_LISTED)))
        cancelled = threading.Event()
        check = stop_when(cancelled, no_progress)

        def work() -> dict[str, Any]:
            with self._lock, self._scope(path, options) as scope:
                search = VideoSearch(
                    scope.videos, scope.store, lambda: self._loaded(check), options, check
                )
                if scope.scanned and search.cost().windows > _MAX_SCANNED:
                    raise UsageError(
                        "these videos are in no index, and too long to look through at once",
                        hint="`smolvideo index FOLDER` on this machine, or name one video",
                    )
                found = scope.with_failures(search.search(query))
            return {
                "hits": [
                    {
                        "path": hit.path,
                        "start": format_clock(hit.start_seconds, decimals=1),
                        "end": format_clock(hit.end_seconds, decimals=1),
                        "score": round(hit.score, 3),
                        "note": hit.note,
                        "subtitles": hit.subtitles,
                    }
                    for hit in found.hits
                ],
                "searched": dict(found.searched),
                "failed": dict(found.failed),
                "notices": list(found.notices),
                "model": found.model,
            }

        return await call_in_thread(work, None, cancelled)

    def _scope(self, path: str | None, options: SearchOptions) -> SearchScope:
        """Open the scope of a search, of files in allowed folders alone."""
        index = self._index or default_index_path()
        if path is not None:
            return self._only_allowed(open_scope(index, [self._allowed(path)], options))
        if not index.is_file():
            raise UsageError(
                "there is no index of videos on this machine",
                hint="name a video as `path`, or `smolvideo index FOLDER` makes one",
            )
        return self._only_allowed(open_scope(index, (), options))

    def _only_allowed(self, scope: SearchScope) -> SearchScope:
        """Leave out videos outside of the allowed folders, links that lead out of them included."""
        allowed = []
        for video in scope.videos:
            paths = [path for path in (video.path, *video.copies) if self._is_allowed(path)]
            if paths:
                allowed.append(replace(video, path=paths[0], copies=tuple(paths[1:])))
        scope.videos = tuple(allowed)
        return scope

    def _is_allowed(self, path: str) -> bool:
        with suppress(OSError, ValueError):
            real = Path(os.path.realpath(path))
            return any(real.is_relative_to(folder) for folder in self._folders)
        return False

    def _loaded(self, check: OnProgress) -> Engine:
        if self._engine is None:
            self._engine = self._load(check)
        return self._engine

    def _info(self, path: str) -> dict[str, Any]:
        allowed = self._allowed(path)
        if allowed.is_dir():
            return _listing(allowed)
        (source,) = resolve_source(str(allowed))
        with open_video(source.path, kind=source.kind, reader=self._reader) as opened:
            metadata = opened.metadata
        return {
            "path": str(allowed),
            "kind": metadata.kind,
            "duration": format_clock(metadata.duration_seconds),
            "duration_seconds": round(metadata.duration_seconds, 3),
            "width": metadata.width,
            "height": metadata.height,
            "average_fps": metadata.average_fps and round(metadata.average_fps, 3),
            "codec": metadata.codec,
            "notices": list(metadata.notices),
        }

    def _open(self, path: str, sampling: FrameSampling, check: OnProgress) -> Video:
        """Return the open video of ``path``; what has changed since is opened anew."""
        allowed = self._allowed(path)
        key = (allowed, file_state(allowed), sampling)
        video = self._videos.pop(key, None)
        if video is None:
            video = Video(
                self._loaded(check),
                self._source(allowed),
                sampling=sampling,
                prompt_options=self._prompt_options,
                reader=self._reader,
                on_progress=check,
            )
        self._videos[key] = video
        while len(self._videos) > _MAX_OPEN:
            self._videos.popitem(last=False)[1].close()
        return video

    def _source(self, path: Path) -> VideoSource:
        one, *more = resolve_source(str(path))
        if more:
            raise UsageError(
                f"`{display_name(path.name)}` is a folder of {1 + len(more)} videos",
                hint="name one of them; video_info lists them",
            )
        return one

    def _allowed(self, path: str) -> Path:
        """Return the real path of a file or folder in an allowed folder. Raises SourceError, with
        the same words for all that is outside."""
        inside = []
        with suppress(OSError, ValueError):
            named = Path(path)
            for folder in self._folders:
                real = Path(os.path.realpath(named if named.is_absolute() else folder / named))
                if real.is_relative_to(folder):
                    inside.append(real)
            if inside:
                return next((real for real in inside if real.exists()), inside[0])
        folders = ", ".join(f"`{folder}`" for folder in self._folders)
        raise SourceError(
            f"`{display_name(path)}` is in no folder that may be read",
            hint=f"these may be: {folders}",
        )

    def _sampling_of(
        self, start: str | None, end: str | None, max_frames: int | None
    ) -> FrameSampling:
        ceiling = self._sampling.max_frames
        return FrameSampling(
            max_frames=min(max_frames or ceiling, ceiling),
            fps=self._sampling.fps,
            strategy=self._sampling.strategy,
            seek=self._sampling.seek,
            start_seconds=_time(start, self._sampling.start_seconds),
            end_seconds=_time(end, self._sampling.end_seconds),
        )


def _time(text: str | None, default: float | RelativeTime | None) -> float | RelativeTime | None:
    if text is None or not text.strip():
        return default
    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _answer_json(video: Video, answer: Answer) -> dict[str, Any]:
    times = [seconds for source in answer.sources for seconds in source.frame_times]
    found: dict[str, Any] = {
        "answer": answer.text,
        "frames_seen_at": [format_clock(seconds, decimals=3) for seconds in times],
        "model": video.engine.checkpoint.name,
        "notices": list(answer.notices),
    }
    if answer.choices is not None:
        found["probabilities"] = dict(answer.choices.probabilities)
    return found


def _listing(folder: Path) -> dict[str, Any]:
    """Return the names of the videos, images and folders in a folder, without hidden ones."""
    try:
        names = sorted(os.listdir(folder), key=natural_order)
    except OSError as error:
        raise SourceError(f"cannot read `{folder}`: {error.strerror}") from error
    shown = [name for name in names if not name.startswith(".")]
    known = VIDEO_SUFFIXES | IMAGE_SUFFIXES
    media = [name for name in shown if Path(name).suffix.lower() in known]
    folders = [name for name in shown if (folder / name).is_dir()]
    return {
        "path": str(folder),
        "kind": "folder",
        "files": media[:_MAX_LISTED],
        "folders": folders[:_MAX_LISTED],
        "left_out": max(0, len(media) - _MAX_LISTED) + max(0, len(folders) - _MAX_LISTED),
    }
