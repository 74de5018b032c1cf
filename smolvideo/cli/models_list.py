"""The table of ``smolvideo models``: registered and cached checkpoints, memory, seconds.

Memory and seconds are predicted from this machine's measured rates (``smolvideo.cost``), for
``FRAMES`` frames and a short question.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from smolvideo.cost import Prediction, kept_rates, predict_first_token, rates_for
from smolvideo.cost.choose import free_memory_bytes
from smolvideo.engines import GenerationOptions
from smolvideo.errors import ModelError
from smolvideo.formatting import format_bytes, format_seconds
from smolvideo.frames import FramePlan, VideoMetadata
from smolvideo.models import (
    MODELS,
    Checkpoint,
    LocalCheckpoint,
    ModelSpec,
    list_local,
    lookup_model,
    open_checkpoint,
)
from smolvideo.progress import Progress
from smolvideo.prompt import PLACEHOLDER_QUESTION, Message, count_tokens, max_frames_that_fit
from smolvideo.records import json_line
from smolvideo.show.console import Output, open_screen
from smolvideo.show.progress_bar import StageProgress
from smolvideo.show.tables import show_table

FRAMES = 50
"""Frames that memory and seconds are predicted for; fewer where they do not fit the context."""
_WORDS = 100
"""Estimated tokens of a question with its chat template, if no tokenizer is available."""
_MAX_FRAMES_TRIED = 2_000
_TOO_LARGE = "too large"

_COLUMNS = {
    "name": 0,
    "params": 110,
    "download": 80,
    "context": 110,
    "per frame": 110,
    "frames": 90,
    "here": 0,
    "memory": 0,
    "50 frames": 0,
    "what": 0,
}
"""Column → width of the narrowest terminal that shows it: what differs between machines is shown in
all, the rest is in `models info`, too."""
_LEFT_ALIGNED = ("name", "here", "what")


@dataclass(frozen=True)
class _Row:
    """One model of the list; unknown values are None."""

    name: str
    note: str
    repo_id: str | None
    parameters: int | None = None
    download_bytes: int | None = None
    context_tokens: int | None = None
    tokens_per_frame: int | None = None
    most_frames: int | None = None
    on_this_machine: bool = False
    problem: str | None = None
    size_bytes: int | None = None
    bfloat16_copy: bool = False
    memory_bytes: int | None = None
    fits_memory: bool | None = None
    first_token_seconds: float | None = None


def show_models(*, as_json: bool, measure: bool) -> None:
    """Print the list. This machine is measured first, where it was not yet, if asked to by
    ``measure`` or if a user is watching."""
    screen = open_screen()
    if (measure or screen.is_interactive) and kept_rates() is None:
        with StageProgress(screen) as stages:
            rates_for(on_measure=lambda: stages.on_progress(Progress("measure")))
    free = free_memory_bytes()
    rows = _rows(free)
    if as_json:
        screen.write(json_line([asdict(row) for row in rows]) + "\n")
        return
    columns = [name for name, width in _COLUMNS.items() if width <= screen.out.width]
    cells = [[_cells(row)[name] for name in columns] for row in rows]
    right = {place for place, name in enumerate(columns) if name not in _LEFT_ALIGNED}
    show_table(screen, columns, cells, right=frozenset(right))
    _explain(screen, columns, free)


def _explain(screen: Output, columns: list[str], free: int) -> None:
    if kept_rates() is None:
        screen.notice(
            "memory and seconds are known once this machine was measured: "
            "`smolvideo models --measure`"
        )
    if not screen.is_interactive:
        return
    words = {
        "per frame": "per frame: tokens of one frame.",
        "frames": "frames: how many fit with a short question.",
        "here": "here: on this machine, with the size of its files.",
        "memory": f"memory: at its peak; {format_bytes(free)} are free now.",
        "50 frames": "50 frames: predicted time from the start to the first word.",
    }
    screen.err.print()
    explained = " ".join(text for name, text in words.items() if name in columns)
    screen.err.print(explained, style="dim")


def _rows(free: int) -> list[_Row]:
    local = {checkpoint.repo_id: checkpoint for checkpoint in list_local()}
    known = [_row(spec, local.get(spec.repo_id or ""), free) for spec in MODELS.values()]
    others = [
        _Row(
            one.name,
            "",
            one.repo_id,
            download_bytes=one.size_bytes - one.copy_bytes or None,
            on_this_machine=one.problem is None,
            problem=one.problem,
            size_bytes=one.size_bytes,
            bfloat16_copy=one.copy_bytes > 0,
        )
        for one in local.values()
        if lookup_model(one.repo_id) is None
    ]
    return known + others


def _row(spec: ModelSpec, local: LocalCheckpoint | None, free: int) -> _Row:
    if spec.is_bundled:
        return _bundled_row(spec)
    assert spec.context_tokens is not None
    assert spec.tokens_per_frame is not None
    room = spec.context_tokens - GenerationOptions().max_new_tokens - _WORDS
    found: Prediction | None = predict_first_token(spec, FRAMES)
    return _Row(
        name=spec.name,
        note=spec.note,
        repo_id=spec.repo_id,
        parameters=spec.parameters,
        download_bytes=spec.download_bytes,
        context_tokens=spec.context_tokens,
        tokens_per_frame=spec.tokens_per_frame,
        most_frames=room // spec.tokens_per_frame,
        on_this_machine=local is not None and local.problem is None,
        problem=local.problem if local else None,
        size_bytes=local.size_bytes if local else None,
        bfloat16_copy=local is not None and local.copy_bytes > 0,
        memory_bytes=found.memory_bytes if found else None,
        fits_memory=found.memory_bytes <= free if found else None,
        first_token_seconds=round(found.first_token, 2) if found else None,
    )


def _bundled_row(spec: ModelSpec) -> _Row:
    """Row of the bundled model from its own files, or with their error as ``problem``."""
    try:
        checkpoint = open_checkpoint(spec.name)
    except ModelError as error:
        return _Row(spec.name, spec.note, None, problem=str(error))
    return _Row(
        name=spec.name,
        note=spec.note,
        repo_id=None,
        parameters=checkpoint.weights.parameters if checkpoint.weights else None,
        context_tokens=checkpoint.context_tokens,
        tokens_per_frame=tokens_per_frame(checkpoint),
        most_frames=most_frames(checkpoint),
        on_this_machine=True,
    )


def _cells(row: _Row) -> Mapping[str, str]:
    seconds = row.first_token_seconds
    takes = format_seconds(seconds) if seconds is not None else ""
    return {
        "name": row.name,
        "params": format_parameters(row.parameters),
        "download": format_bytes(row.download_bytes) if row.download_bytes else "",
        "context": f"{row.context_tokens:,}" if row.context_tokens else "",
        "per frame": str(row.tokens_per_frame or ""),
        "frames": str(row.most_frames or ""),
        "here": _here(row),
        "memory": format_bytes(row.memory_bytes) if row.memory_bytes else "",
        "50 frames": _TOO_LARGE if row.fits_memory is False else takes,
        "what": row.problem or row.note,
    }


def _here(row: _Row) -> str:
    if row.problem:
        return "broken"
    if not row.on_this_machine:
        return "no"
    if row.name == "nano":
        return "bundled"
    size = format_bytes(row.size_bytes or 0)
    return f"bfloat16, {size}" if row.bfloat16_copy else size


def format_parameters(count: int | None) -> str:
    """Format a number of parameters: ``256 M``, ``2.25 B``; empty for None."""
    if count is None:
        return ""
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.3g} M"


def _planned(frames: int) -> list[Message]:
    """Return a message with placeholders for ``frames`` frames, one per second."""
    times = tuple(float(second) for second in range(frames))
    video = FramePlan(times, VideoMetadata(640, 360, float(frames)))
    return [Message("user", (video, PLACEHOLDER_QUESTION))]


def tokens_per_frame(checkpoint: Checkpoint) -> int:
    """Return the tokens of one more frame in a prompt, with its time stamp."""
    return count_tokens(_planned(3), checkpoint) - count_tokens(_planned(2), checkpoint)


def most_frames(checkpoint: Checkpoint) -> int:
    """Return how many frames fit the context beside a short question and an answer."""
    return max_frames_that_fit(
        _planned,
        checkpoint,
        max_new_tokens=GenerationOptions().max_new_tokens,
        max_frames=_MAX_FRAMES_TRIED,
    )
