"""Search: candidates by text, confirmed by the frames, narrowed to moments.

1. Candidates are the windows whose texts match best (BM25), and evenly spread ones where few
   match. Videos that are in no index are scanned: all their windows are candidates.
2. The model is asked about the frames of each candidate (``confirm``); what the frames say and what
   the texts say make one probability.
3. Windows above the limit are narrowed to the frames that show the query; those that touch are one
   hit.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, pairwise
from pathlib import Path

from smolvideo.calibration import IDENTITY, Scale, kept_calibration
from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError, SourceError, UsageError
from smolvideo.formatting import format_count
from smolvideo.frames import FrameBatch
from smolvideo.index.checks import YES_NO, Check
from smolvideo.index.confirm import Finding, confirm, doubt_of, text_finding
from smolvideo.index.entries import IndexedWindow, cues_between
from smolvideo.index.frame_scores import FrameScores, WindowDecoder, WindowFrames
from smolvideo.index.hits import SearchResult
from smolvideo.index.merge import merge_findings
from smolvideo.index.options import IndexOptions
from smolvideo.index.query_checks import checks_of
from smolvideo.index.search_types import Candidate, SearchedVideo
from smolvideo.index.store import IndexStore
from smolvideo.index.subtitle_files import subtitle_state, video_cues
from smolvideo.index.text_match import match_texts
from smolvideo.index.text_query import MAX_CHARACTERS, query_terms
from smolvideo.pipeline import notices_for_model
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.readers import open_video
from smolvideo.sampling.options import subsample
from smolvideo.sanitize import display_path
from smolvideo.source import VideoSource, is_url
from smolvideo.summaries.loader import file_stat
from smolvideo.summaries.prefetch import Prefetcher
from smolvideo.summaries.windows import sampling_grid

MAX_CANDIDATES = 64


@dataclass(frozen=True)
class SearchOptions:
    """``limit`` hits of at least ``min_score`` are returned. ``max_candidates`` windows of an index
    are looked at; without ``confirm`` none, and texts decide alone. ``index`` has the windows of
    videos that are scanned. Raises UsageError for invalid values."""

    limit: int = 10
    min_score: float = 0.5
    confirm: bool = True
    max_candidates: int = MAX_CANDIDATES
    index: IndexOptions = field(default_factory=IndexOptions)

    def __post_init__(self) -> None:
        if self.limit < 1 or self.max_candidates < 1:
            raise UsageError("limits are whole numbers above 0")
        if not 0 <= self.min_score <= 1:
            raise UsageError(f"a score is a probability from 0 to 1, not {self.min_score:g}")


@dataclass(frozen=True)
class ScopeCost:
    """What a search reads at most: windows and their frames."""

    windows: int
    frames: int


@dataclass
class VideoSearch:
    """Searches ``videos``, of which those with a content are in ``store``.

    ``engine`` is called once, before the first frames are read; not at all without ``confirm``.
    """

    videos: Sequence[SearchedVideo]
    store: IndexStore | None
    engine: Callable[[], Engine]
    options: SearchOptions = field(default_factory=SearchOptions)
    on_progress: OnProgress = no_progress

    def __post_init__(self) -> None:
        self._failed: dict[str, str] = {}
        self._notices: dict[str, None] = {}
        self._loaded: Engine | None = None

    def cost(self) -> ScopeCost:
        """Return what the search of one query reads, before it begins."""
        scanned = [window for video in self.videos for window in video.windows]
        frames = sum(len(window.frame_times) for window in scanned)
        indexed = self._indexed()
        if not (self.options.confirm and indexed and self.store is not None):
            return ScopeCost(len(scanned), frames)
        counts = {entry.id: entry.window_count for entry in self.store.contents()}
        windows = sum(counts.get(content, 0) for content in indexed)
        looked_at = min(windows, self.options.max_candidates)
        frames += looked_at * self.options.index.max_frames
        return ScopeCost(len(scanned) + looked_at, frames)

    def search(self, query: str) -> SearchResult:
        """Return the hits of ``query``, the best first.

        Raises UsageError for a query without a word, ModelError and PromptError from the model. A
        video that cannot be read is in the result's ``failed``.
        """
        started = time.perf_counter()
        if not query_terms(query):
            raise UsageError("the query has no words", hint='such as "a dog in the snow"')
        if len(query) > MAX_CHARACTERS:
            raise UsageError(f"a query has at most {MAX_CHARACTERS:,} characters")
        self._failed, self._notices = {}, {}
        candidates = self._current(self.candidates(query))
        findings: list[Finding] = []
        frames = 0
        if self.options.confirm:
            findings, frames = self.confirm(query, candidates)
        else:
            findings = [text_finding(one) for one in candidates if one.match.best > 0]
        kept = [one for one in findings if one.score >= self.options.min_score]
        hits = merge_findings(kept, limit=self.options.limit)
        return SearchResult(
            query,
            hits,
            None if self._loaded is None else self._loaded.checkpoint.name,
            {
                "videos": len(self.videos),
                "windows": self._count_windows(),
                "candidates": len(candidates) if self.options.confirm else 0,
                "frames": frames,
            },
            dict(self._failed),
            tuple(self._notices),
            seconds=round(time.perf_counter() - started, 4),
        )

    # ------------------------------------------------------------ candidates

    def candidates(self, query: str) -> list[Candidate]:
        """Return the windows to look at, those with the best texts first."""
        found: list[tuple[SearchedVideo, IndexedWindow]] = []
        indexed = self._indexed()
        if indexed and self.store is not None:
            found += [
                (indexed[content], window) for content, window in self._from_index(query, indexed)
            ]
        found += [(video, window) for video in self.videos for window in video.windows]
        matches = match_texts(query, [window for _, window in found])
        return [Candidate(*one, match) for one, match in zip(found, matches, strict=True)]

    def _from_index(
        self, query: str, indexed: dict[int, SearchedVideo]
    ) -> Iterator[tuple[int, IndexedWindow]]:
        assert self.store is not None
        limit = self.options.max_candidates
        if not self.options.confirm:
            limit = max(limit, 4 * self.options.limit)
        within = None if self._is_whole_index(indexed) else sorted(indexed)
        by_text = self.store.search(query, contents=within, limit=limit)
        for content, window in by_text:
            if content in indexed:  # not one that another process has just added
                yield content, window
        if self.options.confirm and len(by_text) < limit:
            seen = {window.id for _, window in by_text}
            yield from self.store.spread(sorted(indexed), limit - len(by_text), without=seen)

    def _current(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Leave out the windows of files that are gone or have changed since they were indexed; a
        copy that is as it was takes the place of such a file."""
        if self.store is None:
            return [*candidates]
        indexed = {
            one.video.content: one.video for one in candidates if one.video.content is not None
        }
        current = {
            content: replace(video, path=path)
            for content, video in indexed.items()
            if (path := _current_path(self.store, video)) is not None
        }
        stale = [video.path for content, video in indexed.items() if content not in current]
        if stale:
            files = format_count(len(stale), "file")
            self._notices[
                f"{files} of the index gone or changed since, and left out: `smolvideo index` "
                f"again; the first is {display_path(min(stale))}"
            ] = None
        self._note_new_subtitles(current)
        return [
            one if one.video.content is None else replace(one, video=current[one.video.content])
            for one in candidates
            if one.video.content is None or one.video.content in current
        ]

    def _note_new_subtitles(self, current: Mapping[int, SearchedVideo]) -> None:
        """Say where the subtitles of the index are not those beside the video."""
        assert self.store is not None
        states = self.store.subtitle_states([*current])
        paths = [video.path for video in current.values() if not is_url(video.path)]
        changed = [one for one in paths if states.get(one) not in (None, subtitle_state(Path(one)))]
        if changed:
            self._notices[
                f"the subtitles of {format_count(len(changed), 'file')} have changed since: "
                "`smolvideo index` reads them again; the first is "
                f"{display_path(min(changed))}"
            ] = None

    def _indexed(self) -> dict[int, SearchedVideo]:
        return {video.content: video for video in self.videos if video.content is not None}

    def _is_whole_index(self, indexed: dict[int, SearchedVideo]) -> bool:
        assert self.store is not None
        return len(indexed) == self.store.content_count()

    def _count_windows(self) -> int:
        scanned = sum(len(video.windows) for video in self.videos)
        indexed = self._indexed()
        if not indexed or self.store is None:
            return scanned
        return scanned + self.store.window_count(sorted(indexed))

    # ------------------------------------------------------------ confirmation

    def confirm(self, query: str, candidates: Sequence[Candidate]) -> tuple[list[Finding], int]:
        """Ask the model about the frames of the candidates; return what was found, and how many
        frames were read."""
        if not candidates:
            return [], 0
        engine = self._engine()
        asked = checks_of(query, engine.checkpoint)
        self._notices |= dict.fromkeys(asked.notices(engine.checkpoint))
        doubts = _doubts(asked.unchecked, candidates)
        scale = _scale(engine, asked.checks)
        findings: list[Finding] = []
        frames = done = 0
        decoder = WindowDecoder(
            engine, self.options.index.prompt_options, self.options.index.reader
        )
        ordered = sorted(candidates, key=lambda one: (one.video.path, one.window.start_seconds))
        videos = [[*group] for _, group in groupby(ordered, key=lambda one: one.video.path)]

        def look(group: list[Candidate]) -> Iterator[FrameBatch | SmolVideoError]:
            source = group[0].video.resolve()
            yield from decoder.decode(source, [one.window for one in group])

        with Prefetcher(videos, look, threads=min(2, os.cpu_count() or 1), max_items=3) as ahead:
            for group, batches in ahead:
                try:
                    for one, seen in _with_neighbours(group, batches):
                        done += 1
                        self.on_progress(Progress("find", done, len(candidates)))
                        if isinstance(seen, SmolVideoError):
                            self._failed[one.video.path] = str(seen)
                            continue
                        self._notices |= dict.fromkeys(
                            notices_for_model(engine.checkpoint, [seen.batch])
                        )
                        scores = FrameScores(
                            engine,
                            seen.batch,
                            around=seen,
                            options=self.options.index.prompt_options,
                            scale=scale,
                        )
                        findings.append(
                            confirm(
                                one,
                                scores,
                                asked.checks,
                                min_score=self.options.min_score,
                                doubt=doubts[one.video.path, one.window.number],
                            )
                        )
                        frames += scores.frames_read
                except SmolVideoError as error:
                    if not isinstance(error, SourceError) and error.exit_code != 3:
                        raise
                    self._failed[group[0].video.path] = str(error)
        return findings, frames

    def _engine(self) -> Engine:
        if self._loaded is None:
            self._loaded = self.engine()
        return self._loaded


def _with_neighbours(
    group: Sequence[Candidate], batches: Iterable[FrameBatch | SmolVideoError]
) -> Iterator[tuple[Candidate, WindowFrames | SmolVideoError]]:
    """Yield the windows of one video with their frames, and those of the windows next to each; the
    frames of three windows are in memory at a time."""
    decoded = (
        one if isinstance(one, SmolVideoError) else WindowFrames(candidate.window, one)
        for candidate, one in zip(group, batches, strict=True)
    )
    before: WindowFrames | None = None
    for candidate, (here, after) in zip(group, pairwise(chain(decoded, [None])), strict=True):
        if not isinstance(here, WindowFrames):
            assert here is not None
            before = None
            yield candidate, here
            continue
        number = candidate.window.number
        first = before if before is not None and before.window.number == number - 1 else None
        is_next = isinstance(after, WindowFrames) and after.window.number == number + 1
        last = after if is_next and isinstance(after, WindowFrames) else None
        before = here
        yield candidate, replace(here, before=first, after=last)


def _doubts(
    unchecked: Sequence[str], candidates: Sequence[Candidate]
) -> dict[tuple[str, int], float]:
    """Return what the probability of each candidate, by path and window, is multiplied by for words
    that the frames cannot confirm."""
    matches = match_texts(" ".join(unchecked), [one.window for one in candidates])
    return {
        (one.video.path, one.window.number): doubt_of(match)
        for one, match in zip(candidates, matches, strict=True)
    }


def _scale(engine: Engine, checks: Sequence[Check]) -> Scale:
    """Return the kept scale of yes and no, where one was fitted for the checkpoint."""
    if not any(check.choices == YES_NO for check in checks):
        return IDENTITY
    kept = kept_calibration(engine.checkpoint, YES_NO)
    return IDENTITY if kept is None else kept.scale


def indexed_videos(store: IndexStore) -> list[SearchedVideo]:
    """Return the videos of the index, each content once, with all of its files."""
    entries = {entry.id: entry for entry in store.contents() if entry.error is None}
    paths: dict[int, list[str]] = {}
    for path, content in store.paths():
        if content in entries:
            paths.setdefault(content, []).append(path)
    return [
        SearchedVideo(first, content, entries[content].sha256, copies=tuple(others))
        for content, (first, *others) in paths.items()
    ]


def _current_path(store: IndexStore, video: SearchedVideo) -> str | None:
    """Return the first file of a content that is as it was indexed."""
    if video.source is not None:  # identified for this search
        return video.path
    paths = (video.path, *video.copies)
    return next((path for path in paths if is_url(path) or is_current(store, path)), None)


def planned_video(path: str, source: VideoSource, options: IndexOptions) -> SearchedVideo:
    """Return a video with evenly spaced windows, and its subtitles, to be scanned.

    Only metadata is read. Raises ReaderError where it cannot be opened.
    """
    with open_video(source.path, kind=source.kind, reader=options.reader) as opened:
        metadata = opened.metadata
    length = options.window_seconds
    end = max(metadata.duration_seconds, metadata.last_pts_seconds or 0.0)
    cues, _ = video_cues(source, options.reader)
    times = sampling_grid(metadata, length, options.max_frames)
    windows: list[IndexedWindow] = []
    for number in range(max(1, round(end / length))):
        start = number * length
        until = end if number + 1 >= round(end / length) else start + length
        own = tuple(time for time in times if start <= time < until) or (start,)
        kept = tuple(subsample(own, options.max_frames))
        said = cues_between(cues, start, until)
        windows.append(IndexedWindow(number, start, until, kept, cues=said))
    return SearchedVideo(path, source=source, windows=tuple(windows))


def is_current(store: IndexStore, path: str) -> bool:
    """Whether the index knows the file as it is now."""
    return store.known_hash(path, file_stat(Path(path))) is not None
