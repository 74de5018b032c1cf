"""What became of a video, as its record."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import recorded_versions
from smolvideo.records import SourceRecord
from smolvideo.summaries.composing import Composed
from smolvideo.summaries.looking import Found, Opened
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.worklist import WorkItem


@dataclass(frozen=True)
class Facts:
    """What is known of an item before it is answered; grows with what is found."""

    item: WorkItem
    options: SummaryOptions
    settings: Mapping[str, Any]
    settings_key: str
    checkpoint: Checkpoint
    found: Found | None = None

    def of(self, found: Found) -> "Facts":
        """With what the item turned out to be."""
        return replace(self, found=found)


def made_record(facts: Facts, opened: Opened, composed: Composed, engine: Engine) -> SummaryRecord:
    """The record of a summary made now."""
    from_source = facts.found.source.notices if facts.found is not None else ()
    return _record(
        facts,
        text=composed.text,
        duration_seconds=opened.metadata.duration_seconds,
        window_seconds=opened.window_seconds,
        chapters=composed.chapters,
        notes=composed.notes,
        engine=engine.name,
        device=engine.device,
        dtype=engine.dtype,
        quantise=engine.quantise,
        tokens=composed.tokens,
        frames=composed.frames,
        seconds={name: round(seconds, 4) for name, seconds in composed.seconds.items()},
        notices=tuple(
            dict.fromkeys((*from_source, *opened.metadata.notices, *composed.all_notices()))
        ),
    )


def same_record(facts: Facts, twin: SummaryRecord) -> SummaryRecord:
    """The record of a video whose content was answered under another name."""
    return replace(
        twin,
        path=facts.item.path,
        source=_source(facts),
        stamp=facts.found.stamp if facts.found else (),
        same_as=twin.same_as or twin.path,
        output=None,
        tokens={},
        seconds={},
        created=_record(facts, text="").created,
    )


def failed_record(facts: Facts, error: SmolVideoError) -> SummaryRecord:
    """The record of a video that could not be summarised."""
    return _record(facts, error=str(error), hint=error.hint, exit_code=error.exit_code)


def _record(facts: Facts, **outcome: Any) -> SummaryRecord:
    return SummaryRecord(
        path=facts.item.path,
        source=_source(facts),
        style=facts.options.style,
        settings=facts.settings,
        settings_key=facts.settings_key,
        stamp=facts.found.stamp if facts.found else (),
        model=facts.checkpoint.name,
        revision=facts.checkpoint.revision,
        versions=recorded_versions(),
        **outcome,
    )


def _source(facts: Facts) -> SourceRecord:
    source = facts.found.source if facts.found else facts.item.source
    return SourceRecord(
        given=facts.item.given,
        name=source.name if source else facts.item.name,
        kind=source.kind if source else "video",
        sha256=facts.found.sha256 if facts.found else None,
        url=source.url if source else None,
    )
