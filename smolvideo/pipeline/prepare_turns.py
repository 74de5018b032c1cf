"""Prepare a conversation whose turns hold media and texts in any order, as chat clients send it.

``prepare`` asks one question about sources; here each medium has its place among the texts, its own
time window, and perhaps the times of its frames. Choosing, counting and decoding are the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from smolvideo.engines import GenerationOptions
from smolvideo.errors import ReaderError, UsageError
from smolvideo.files import read_unchanged
from smolvideo.frames import Frame, FrameBatch, FramePlan, Images
from smolvideo.models import Checkpoint
from smolvideo.pipeline.notices import notices_for_model, notices_of_frames, unknown_word_notices
from smolvideo.pipeline.prepare_prompt import (
    PromptPlan,
    allocate_frames,
    decode_all,
)
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, PromptOptions, Role, check_budget, pack_prompt
from smolvideo.readers import VideoReader
from smolvideo.sampling import FrameSampling
from smolvideo.source import VideoSource


@dataclass(frozen=True)
class Medium:
    """One video, image or list of frames of a conversation.

    ``sampling`` bounds the window and the rate of this medium. For a list of frames (a folder of
    images) ``frame_times`` are their presentation times in seconds, strictly ascending, and
    ``duration_seconds`` that of the video they were taken from; without them the frames have an
    order and no clock.
    """

    source: VideoSource
    sampling: FrameSampling
    frame_times: tuple[float, ...] | None = None
    duration_seconds: float | None = None


@dataclass(frozen=True)
class MediaTurn:
    """One turn: texts and media in the order in which the model gets them."""

    role: Role
    content: tuple[str | Medium, ...]


@dataclass(frozen=True)
class DecodedTurns:
    """The frames of all media in order, and the notices on them; reusable under other texts."""

    batches: tuple[FrameBatch, ...]
    frame_notices: tuple[str, ...]
    max_frames: int


def media_of(turns: Sequence[MediaTurn]) -> list[Medium]:
    """Return the media of all turns, in order."""
    return [item for turn in turns for item in turn.content if isinstance(item, Medium)]


def decode_turns(
    checkpoint: Checkpoint,
    turns: Sequence[MediaTurn],
    *,
    sampling: FrameSampling,
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    on_progress: OnProgress = no_progress,
) -> DecodedTurns:
    """Choose the frames of all media, check that they fit beside the texts, and decode them.

    ``sampling.max_frames`` is the budget of all media together, as in ``prepare``; a list of frames
    counts as its frames, none of which is left out. Raises as ``prepare``, and ReaderError where a
    frame of a list cannot be decoded, with its number.
    """
    media = media_of(turns)
    if not media:
        return DecodedTurns((), (), sampling.max_frames)
    sources = [medium.source for medium in media]
    draft = TurnPlan((), sampling, "", None, (), turns=tuple(turns), media=tuple(media))
    _, total, plan_notices, batches = read_unchanged(
        lambda: decode_all(
            draft, sources, reader, checkpoint, prompt_options, generation, on_progress
        ),
        *(source.path for source in sources),
    )
    for medium, batch in zip(media, batches, strict=True):
        if medium.source.kind == "frames":
            _check_complete(medium, batch)
    of_sources = (notice for source in sources for notice in source.notices)
    notices = (*of_sources, *plan_notices, *notices_of_frames(batches))
    return DecodedTurns(batches, notices, total)


def pack_turns(
    checkpoint: Checkpoint,
    turns: Sequence[MediaTurn],
    decoded: DecodedTurns,
    *,
    sampling: FrameSampling,
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    started: float | None = None,
) -> PreparedPrompt:
    """Pack ``turns`` with their decoded frames. Raises PromptError where they do not fit.

    ``started`` is when the preparation began, on ``time.perf_counter``.
    """
    messages = place_media(turns, decoded.batches)
    question = _question_of(turns)
    notices = (
        *notices_for_model(checkpoint, decoded.batches),
        *decoded.frame_notices,
        *unknown_word_notices(question, checkpoint),
    )
    return PreparedPrompt(
        question=question,
        sources=tuple(medium.source for medium in media_of(turns)),
        messages=messages,
        prompt=pack_prompt(messages, checkpoint, prompt_options),
        batches=decoded.batches,
        sampling=replace(sampling, max_frames=decoded.max_frames),
        prompt_options=prompt_options,
        generation=generation.with_drawn_seed(),
        reader=reader,
        notices=notices,
        frame_notices=decoded.frame_notices,
        seconds={} if started is None else {"decode": time.perf_counter() - started},
    )


def place_media(
    turns: Sequence[MediaTurn], frames: Sequence[FrameBatch | FramePlan]
) -> tuple[Message, ...]:
    """Return the messages of ``turns``, with ``frames`` in the places of the media."""
    in_order = iter(frames)
    return tuple(
        Message(
            turn.role,
            tuple(item if isinstance(item, str) else next(in_order) for item in turn.content),
        )
        for turn in turns
    )


@dataclass(frozen=True)
class TurnPlan(PromptPlan):
    """The open media of a conversation, and its turns, before decoding."""

    turns: tuple[MediaTurn, ...] = ()
    media: tuple[Medium, ...] = field(default=())

    def with_readers(self, readers: tuple[VideoReader, ...]) -> Self:
        """Return the plan with its sources opened; lists of frames get their own times."""
        timed = (
            _TimedFrames(reader, medium) if medium.frame_times is not None else reader
            for reader, medium in zip(readers, self.media, strict=True)
        )
        return replace(self, readers=tuple(timed))

    def sampling_of(self, reader: VideoReader) -> FrameSampling:
        place = next(at for at, known in enumerate(self.readers) if known is reader)
        return self.media[place].sampling

    def choose_count(
        self, checkpoint: Checkpoint, options: PromptOptions, generation: GenerationOptions
    ) -> tuple[int, tuple[str, ...]]:
        """Return the number of frames that fit; lists of frames fit in full, or not at all."""
        most, least = self.sampling.max_frames, len(self.media)
        least += sum(len(times) - 1 for times in self._lists().values())
        if self._lists() and least > most:
            raise UsageError(f"{least} frames are more than the {most} that may be used")
        if self._lists():
            room = generation.max_new_tokens
            check_budget(self.planned(least), checkpoint, options, max_new_tokens=room)
        return super().choose_count(checkpoint, options, generation)

    def times(self, total: int) -> list[list[float]]:
        """Return the frame times of each medium; videos share what images and lists of frames
        leave."""
        fixed = self._lists() | {
            place: [0.0]
            for place, reader in enumerate(self.readers)
            if reader.metadata.kind == "image"
        }
        videos = [place for place in range(len(self.readers)) if place not in fixed]
        room = max(total - sum(map(len, fixed.values())), len(videos))
        wanted = [len(self._times_of(self.readers[place], room)) for place in videos]
        shares = dict(zip(videos, allocate_frames(wanted, room), strict=True))
        return [
            fixed[place] if place in fixed else self._times_of(reader, shares[place])
            for place, reader in enumerate(self.readers)
        ]

    def transform_of(
        self, reader: VideoReader, checkpoint: Checkpoint, options: PromptOptions
    ) -> tuple[str, Callable[[Images], Images]]:
        """Return the transform of a medium; frames of a list that have the model's size already,
        as another smolvideo sends them, are taken as they are."""
        geometry, transform = super().transform_of(reader, checkpoint, options)
        place = next(at for at, known in enumerate(self.readers) if known is reader)
        side, metadata = checkpoint.image_size, reader.metadata
        if self.media[place].source.kind == "frames" and metadata.width == metadata.height == side:
            return geometry, lambda image: image
        return geometry, transform

    def messages(self, media: Sequence[FrameBatch | FramePlan]) -> tuple[Message, ...]:
        return place_media(self.turns, media)

    def _times_of(self, reader: VideoReader, max_frames: int) -> list[float]:
        own = self.sampling_of(reader).max_frames
        return super()._times_of(reader, min(max_frames, own))

    def _lists(self) -> dict[int, list[float]]:
        """The places of the lists of frames, each with all of its times."""
        return {
            place: reader.frame_times()
            for place, (reader, medium) in enumerate(zip(self.readers, self.media, strict=True))
            if medium.source.kind == "frames"
        }


class _TimedFrames(VideoReader):
    """A folder of frames, which has no clock, under the times that came with its frames."""

    def __init__(self, folder: VideoReader, medium: Medium) -> None:
        assert medium.frame_times is not None
        self._folder = folder
        self._own = folder.frame_times()
        self._times = medium.frame_times
        if len(self._own) != len(self._times):
            raise UsageError(f"{len(self._own)} frames have {len(self._times)} times")
        self.name = folder.name
        last = self._times[-1]
        self.metadata = replace(
            folder.metadata,
            kind="video",
            duration_seconds=last if medium.duration_seconds is None else medium.duration_seconds,
            average_fps=None,
            first_pts_seconds=self._times[0],
            last_pts_seconds=last,
        )

    def close(self) -> None:
        self._folder.close()

    def frame_times(self) -> list[float]:
        return list(self._times)

    def key_frame_times(self) -> list[float]:
        return self.frame_times()

    def frames_at(
        self, seconds: Sequence[float], *, max_side: int | None = None, keyframes: bool = False
    ) -> Iterator[Frame]:
        wanted = [self._place_at(one) for one in seconds]
        inner = self._folder.frames_at([self._own[place] for place in wanted], max_side=max_side)
        for frame in inner:
            yield replace(frame, pts_seconds=self._times[self._own.index(frame.pts_seconds)])

    def _place_at(self, seconds: float) -> int:
        """Return the index of the frame on screen at a time."""
        shown = [place for place, time in enumerate(self._times) if time <= seconds + 1e-6]
        return shown[-1] if shown else 0


def _check_complete(medium: Medium, batch: FrameBatch) -> None:
    """Raise ReaderError, with the number of the frame, where one of a list was not decoded."""
    times = medium.frame_times
    count = len(list(Path(medium.source.path).iterdir()))
    expected = list(times) if times is not None else [float(place) for place in range(count)]
    if len(batch) == count:
        return
    shown = set(batch.pts_seconds)
    missing = next(place for place, time in enumerate(expected) if time not in shown)
    raise ReaderError(f"image {missing + 1} of {count} cannot be decoded")


def _question_of(turns: Sequence[MediaTurn]) -> str:
    """Return the text of the last turn."""
    last = turns[-1].content if turns else ()
    return "\n".join(item.strip() for item in last if isinstance(item, str)).strip()
