"""Factories of records: summary, duplicate and error."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from smolvideo.engines import Engine
from smolvideo.errors import SmolVideoError
from smolvideo.models import Checkpoint
from smolvideo.pipeline import package_versions
from smolvideo.records import SourceRecord
from smolvideo.summaries.loader import IdentifiedSource, ProbedVideo
from smolvideo.summaries.options import SummaryOptions
from smolvideo.summaries.record import SummaryRecord
from smolvideo.summaries.summariser import Summary
from smolvideo.summaries.worklist import WorkItem


@dataclass(frozen=True)
class RecordContext:
    """Everything known about an item before it is answered; ``found`` is set once identified."""

    item: WorkItem
    options: SummaryOptions
    settings: Mapping[str, Any]
    settings_key: str
    checkpoint: Checkpoint
    found: IdentifiedSource | None = None

    def with_source(self, found: IdentifiedSource) -> "RecordContext":
        """Return a copy with the identified source."""
        return replace(self, found=found)


def summary_record(
    facts: RecordContext, opened: ProbedVideo, composed: Summary, engine: Engine
) -> SummaryRecord:
    """Record of a new summary."""
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
        quantize=engine.quantize,
        tokens=composed.tokens,
        frames=composed.frames,
        seconds={name: round(seconds, 4) for name, seconds in composed.seconds.items()},
        notices=tuple(
            dict.fromkeys((*from_source, *opened.metadata.notices, *composed.all_notices()))
        ),
    )


def duplicate_record(facts: RecordContext, duplicate: SummaryRecord) -> SummaryRecord:
    """Record of a video whose content was already summarised under another path."""
    return replace(
        duplicate,
        path=facts.item.path,
        source=_source(facts),
        stamp=facts.found.stamp if facts.found else (),
        same_as=duplicate.same_as or duplicate.path,
        output=None,
        tokens={},
        seconds={},
        created=_record(facts, text="").created,
    )


def error_record(facts: RecordContext, error: SmolVideoError) -> SummaryRecord:
    """Record of a video that could not be summarised."""
    return _record(facts, error=str(error), hint=error.hint, exit_code=error.exit_code)


def _record(facts: RecordContext, **outcome: Any) -> SummaryRecord:
    return SummaryRecord(
        path=facts.item.path,
        source=_source(facts),
        style=facts.options.style,
        settings=facts.settings,
        settings_key=facts.settings_key,
        stamp=facts.found.stamp if facts.found else (),
        model=facts.checkpoint.name,
        revision=facts.checkpoint.revision,
        versions=package_versions(),
        **outcome,
    )


def _source(facts: RecordContext) -> SourceRecord:
    source = facts.found.source if facts.found else facts.item.source
    return SourceRecord(
        given=facts.item.given,
        name=source.name if source else facts.item.name,
        kind=source.kind if source else "video",
        sha256=facts.found.sha256 if facts.found else None,
        url=source.url if source else None,
    )
