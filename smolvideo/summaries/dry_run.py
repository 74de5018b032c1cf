"""Dry run: the action and the cost in windows, frames and tokens per item, without decoding more
than a first frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from smolvideo.errors import SmolVideoError
from smolvideo.frames import FramePlan
from smolvideo.prompt import Message, count_tokens
from smolvideo.readers import VideoReader
from smolvideo.sampling import FrameSampling, choose_times
from smolvideo.summaries.loader import IdentifiedSource, identify
from smolvideo.summaries.options import SummaryPrompts
from smolvideo.summaries.run import SummaryRun
from smolvideo.summaries.windows import count_windows, sampling_grid
from smolvideo.summaries.worklist import WorkItem, resolve_item

PlannedAction = Literal["new", "changed", "settings", "again", "done", "same", "fetch", "error"]
"""new: no record · changed: other content · settings: recorded with other settings · again: an
error that may have been temporary · done · same: duplicate content · fetch: a URL that is not
downloaded yet · error: cannot be summarised."""


@dataclass(frozen=True)
class PlannedItem:
    """Cost of one item: windows (0: a single prompt), frames to decode, tokens to prefill."""

    item: WorkItem
    plan: PlannedAction
    reason: str = ""
    duration_seconds: float | None = None
    windows: int = 0
    frames: int = 0
    tokens: int = 0


def plan_items(batch: SummaryRun, items: Iterable[WorkItem]) -> Iterator[PlannedItem]:
    """Yield a plan for each item. Nothing is downloaded, so the cost of a URL is unknown."""
    earlier: dict[str, str] = {}
    for item in items:
        try:
            if item.source is None and item.error is None:
                known = batch.journal.entry(item.path)
                kept = known is not None and known.settings_key == batch.settings_key
                yield PlannedItem(item, "done" if kept and known and not known.failed else "fetch")
                continue
            source = resolve_item(item, batch.download, batch.on_progress)
            found = identify(source, item.path, batch.known_hash)
            yield _planned(batch, item, found, earlier)
        except SmolVideoError as error:
            yield PlannedItem(item, "error", str(error))


def seconds_per_frame(batch: SummaryRun) -> float | None:
    """Mean seconds per frame over this folder's records of the same model; None without any."""
    seconds = frames = 0.0
    for record in batch.journal.records():
        if record.model == batch.checkpoint.name and record.frames and record.seconds:
            stages = (record.seconds.get(name, 0.0) for name in ("encode", "prefill", "generate"))
            seconds, frames = seconds + sum(stages), frames + record.frames
    return seconds / frames if frames else None


def _planned(
    batch: SummaryRun, item: WorkItem, found: IdentifiedSource, earlier: dict[str, str]
) -> PlannedItem:
    if batch.is_done(item, found):
        entry = batch.journal.entry(item.path)
        if entry is not None and entry.failed:
            return PlannedItem(item, "error", str(batch.journal.record(item.path).error))
        return PlannedItem(item, "done")
    content = found.sha256 or ""
    if content in earlier:
        return PlannedItem(item, "same", earlier[content])
    twin = batch.journal.find_duplicate(content, batch.settings_key)
    if twin is not None:
        return PlannedItem(item, "same", twin.source.name)
    if content:
        earlier[content] = item.name
    with batch.looker.reader(found.source) as reader:
        windows, frames, tokens = _cost(batch, reader)
        duration = reader.metadata.duration_seconds
    return PlannedItem(
        item,
        _why(batch, item, found),
        duration_seconds=duration,
        windows=windows,
        frames=frames,
        tokens=tokens,
    )


def _why(batch: SummaryRun, item: WorkItem, found: IdentifiedSource) -> PlannedAction:
    entry = batch.journal.entry(item.path)
    if entry is None:
        return "new"
    if entry.settings_key != batch.settings_key:
        return "settings"
    return "changed" if entry.sha256 != found.sha256 else "again"


def _cost(batch: SummaryRun, reader: VideoReader) -> tuple[int, int, int]:
    """Return windows, frames and prompt tokens; prompts that merge notes are not counted."""
    wording = SummaryPrompts.of(batch.options, batch.checkpoint)
    opened, most = batch.looker.seen_as(reader.metadata), batch.looker.frames
    metadata = opened.metadata
    if opened.window_seconds is not None:
        windows = count_windows(metadata.duration_seconds, opened.window_seconds)
        frames = len(sampling_grid(metadata, opened.window_seconds, most))
        times = tuple(place * opened.window_seconds / most for place in range(most))
        questions = wording.window()
    else:
        windows = 0
        times = tuple(choose_times(reader, FrameSampling(max_frames=most)))
        frames, questions = len(times), wording.video_questions()
    message = Message("user", (FramePlan(times, metadata), questions[0]))
    tokens = count_tokens((message,), batch.checkpoint, batch.options.prompt_options)
    return windows, frames, tokens * max(windows, 1)
