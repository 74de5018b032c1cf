"""Prepare a prompt: read metadata, choose frame times, count tokens, decode, pack.

Tokens are counted before decoding, so that frames that do not fit are never decoded.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Self, TypeVar

from smolvideo.engines import GenerationOptions
from smolvideo.errors import PromptError, UsageError
from smolvideo.files import file_state, read_unchanged
from smolvideo.frames import FrameBatch, FramePlan, Images
from smolvideo.models import Checkpoint
from smolvideo.pipeline.notices import notices_for_model, notices_of_frames, unknown_word_notices
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import (
    Message,
    PromptOptions,
    check_budget,
    check_question,
    count_tokens,
    describe_budget,
    describe_max_images,
    frame_transform,
    has_too_many_images,
    image_transform,
    max_frames_that_fit,
    pack_prompt,
    should_split_images,
)
from smolvideo.readers import VideoReader, open_video
from smolvideo.sampling import (
    FrameSampling,
    choose_times,
    resolve_window,
    sample_frames,
    still_image_warning,
)
from smolvideo.source import Sources, VideoSource, resolve_all

RESERVED_CONTEXT_DIVISOR = 8
"""An eighth of the context is reserved for questions to come when the number of frames is chosen:
more frames would have to be decoded and encoded anew for a longer question."""


def prepare(
    checkpoint: Checkpoint,
    sources: Sources,
    question: str,
    *,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    history: Sequence[Message] = (),
    subtitles: str | None = None,
    notices: Iterable[str] = (),
    on_progress: OnProgress = no_progress,
) -> PreparedPrompt:
    """Choose frames, check that they fit the context, decode them, and pack the prompt.

    ``sampling.max_frames`` is the budget of the whole question: videos share it evenly, and a short
    one leaves its rest to the others; an image counts as one frame. With several sources each is
    labelled ``Video 1:`` or ``Image 1:``. ``subtitles`` (a formatted text) precede the question;
    ``notices`` of the caller precede those of this function. Tokens are counted before decoding; if
    they do not fit, frames are reduced with a notice where ``sampling.reduce_to_fit`` allows it.

    A file that changes while it is decoded is decoded again.

    Raises SourceError and ReaderError for the sources, UsageError for more sources than
    ``max_frames`` and for a time window if all are still images, PromptError for an empty question
    and where the prompt does not fit (with the number of frames that does).
    """
    check_question(question)
    given = resolve_all(sources, on_progress=on_progress)
    return prepare_plan(
        PromptPlan((), sampling, question, subtitles, tuple(history)),
        given,
        checkpoint,
        prompt_options=prompt_options,
        generation=generation,
        reader=reader,
        notices=notices,
        on_progress=on_progress,
    )


def prepare_plan(
    draft: "PromptPlan",
    sources: tuple[VideoSource, ...],
    checkpoint: Checkpoint,
    *,
    prompt_options: PromptOptions,
    generation: GenerationOptions,
    reader: str,
    notices: Iterable[str],
    on_progress: OnProgress,
) -> PreparedPrompt:
    """Decode ``sources`` and pack the prompt that ``draft``, without readers, plans. Raises as
    ``prepare``."""
    # Plan, count tokens and decode; repeated if a file changes meanwhile.
    started = time.perf_counter()
    plan, total, plan_notices, batches = read_unchanged(
        lambda: decode_all(
            draft, sources, reader, checkpoint, prompt_options, generation, on_progress
        ),
        *(source.path for source in sources),
    )
    seconds = {"decode": time.perf_counter() - started} if sources else {}
    # Pack the messages, and collect the notices.
    messages = plan.messages(batches)
    of_sources = (notice for source in sources for notice in source.notices)
    frame_notices = (*of_sources, *plan_notices, *notices_of_frames(batches))
    words = unknown_word_notices(draft.question, checkpoint)
    return PreparedPrompt(
        question=draft.question,
        sources=sources,
        messages=messages,
        prompt=pack_prompt(messages, checkpoint, prompt_options),
        batches=batches,
        sampling=replace(draft.sampling, max_frames=total),
        prompt_options=prompt_options,
        generation=generation.with_drawn_seed(),
        reader=reader,
        notices=(*notices_for_model(checkpoint, batches), *notices, *frame_notices, *words),
        frame_notices=frame_notices,
        seconds=seconds,
        subtitles=draft.subtitles,
    )


def reserve_context(
    generation: GenerationOptions, sampling: FrameSampling, checkpoint: Checkpoint
) -> GenerationOptions:
    """Return ``generation`` with a reserve for later questions, if frames may be reduced."""
    reserved = generation.max_new_tokens + checkpoint.context_tokens // RESERVED_CONTEXT_DIVISOR
    if not sampling.reduce_to_fit or reserved >= checkpoint.context_tokens // 2:
        return generation
    return replace(generation, max_new_tokens=reserved)


def allocate_frames(wanted: Sequence[int], total: int) -> list[int]:
    """Divide ``total`` frames among sources by max-min fairness.

    Each source gets at least 1 and at most ``wanted[i]``; unused shares go to the others. The
    remainder of the division goes to the largest demands, the last ones among equals.

    >>> allocate_frames([50, 50, 4], 51)
    [23, 24, 4]
    """
    shares = [0] * len(wanted)
    left = total
    for place, index in enumerate(sorted(range(len(wanted)), key=lambda index: wanted[index])):
        even = left // (len(wanted) - place)
        shares[index] = max(1, min(wanted[index], even))
        left -= shares[index]
    return shares


@dataclass(frozen=True)
class PromptPlan:
    """The open sources and the texts of the prompt, before decoding."""

    readers: tuple[VideoReader, ...]
    sampling: FrameSampling
    question: str
    subtitles: str | None
    history: tuple[Message, ...]

    def with_readers(self, readers: tuple[VideoReader, ...]) -> Self:
        """Return the plan with its sources opened."""
        return replace(self, readers=readers)

    def sampling_of(self, reader: VideoReader) -> FrameSampling:
        """Return the sampling of one source; here it is that of all."""
        return self.sampling

    def choose_count(
        self, checkpoint: Checkpoint, options: PromptOptions, generation: GenerationOptions
    ) -> tuple[int, tuple[str, ...]]:
        """Return the number of frames that fit, and a notice if reduced; see
        ``choose_frame_count``."""
        return choose_frame_count(self, checkpoint, options, generation)

    def transform_of(
        self, reader: VideoReader, checkpoint: Checkpoint, options: PromptOptions
    ) -> tuple[str, Callable[[Images], Images]]:
        """Return the geometry's name and the transform of the frames of one source."""
        if reader.metadata.kind == "image":
            return image_transform(checkpoint, options)
        return frame_transform(checkpoint, options)

    def times(self, total: int) -> list[list[float]]:
        """Return the frame times of each source, for ``total`` frames of all together."""
        videos = [reader for reader in self.readers if reader.metadata.kind != "image"]
        room = max(total - (len(self.readers) - len(videos)), len(videos))
        wanted = [len(self._times_of(reader, room)) for reader in videos]
        shares = iter(allocate_frames(wanted, room))
        return [
            [0.0] if reader.metadata.kind == "image" else self._times_of(reader, next(shares))
            for reader in self.readers
        ]

    def planned(self, total: int) -> tuple[Message, ...]:
        """Return the messages with placeholders for ``total`` frames."""
        return self.messages(
            [
                FramePlan(tuple(times), reader.metadata)
                for reader, times in zip(self.readers, self.times(total), strict=True)
            ]
        )

    def messages(self, media: Sequence[FrameBatch | FramePlan]) -> tuple[Message, ...]:
        """Return the messages with the ``media`` of the sources, in order, before the question."""
        content: list[str | FrameBatch | FramePlan] = []
        seen = {"Video": 0, "Image": 0}
        for item in media:
            if len(media) > 1:
                noun = "Image" if item.metadata.kind == "image" else "Video"
                seen[noun] += 1
                content.append(f"{noun} {seen[noun]}:\n")
            content.append(item)
        if self.subtitles and self.subtitles.strip():
            content.append(self.subtitles.rstrip() + "\n\n")
        return (*self.history, Message("user", (*content, self.question)))

    def _times_of(self, reader: VideoReader, max_frames: int) -> list[float]:
        return choose_times(reader, replace(self.sampling_of(reader), max_frames=max_frames))


def still_image_notices(plan: PromptPlan) -> list[str]:
    """Return notices on options that do not apply to still images.

    These are a time window if there are also videos, and a frame rate or seek mode if there are
    none. Raises UsageError for a time window without any video.
    """
    metadata, sampling = [reader.metadata for reader in plan.readers], plan.sampling
    stills = [one for one in metadata if one.kind == "image"]
    alone = len(stills) == len(metadata)
    if stills and sampling.has_window:
        if alone:
            resolve_window(stills[0], sampling)
        return [still_image_warning(still) for still in stills]
    if alone and (sampling.fps is not None or sampling.seek != "exact"):
        return [
            f"`{still.name}` is a still picture: it has no rate, and nothing to seek in"
            for still in stills
        ]
    return []


def choose_frame_count(
    plan: PromptPlan, checkpoint: Checkpoint, options: PromptOptions, generation: GenerationOptions
) -> tuple[int, tuple[str, ...]]:
    """Return the number of frames that fit, and a notice if reduced. Raises as ``prepare``."""
    asked, room = plan.sampling.max_frames, generation.max_new_tokens
    if len(plan.readers) > asked:
        raise too_few_frames(len(plan.readers), asked)
    # The requested number fits, or there are only images, which cannot be reduced.
    planned = plan.planned(asked)
    tokens = count_tokens(planned, checkpoint, options)
    is_over_images = has_too_many_images(planned, checkpoint)
    if tokens + room <= checkpoint.context_tokens and not is_over_images:
        return asked, ()
    if all(reader.metadata.kind == "image" for reader in plan.readers):
        check_budget(planned, checkpoint, options, max_new_tokens=room)
    # Search the largest number that fits, at least one frame per source.
    least = max(1, len(plan.readers))
    fit = (
        least
        - 1
        + max_frames_that_fit(
            lambda more: plan.planned(least - 1 + more),
            checkpoint,
            options,
            max_new_tokens=room,
            max_frames=asked - least + 1,
        )
    )
    taken = sum(len(times) for times in plan.times(asked))
    by_images = is_over_images and has_too_many_images(plan.planned(fit + 1), checkpoint)
    if by_images and not plan.sampling.reduce_to_fit:
        raise PromptError(
            f"{taken} frames are too many: {describe_max_images(checkpoint)}",
            hint=f"`--max-frames {fit}` fits",
        )
    if by_images:
        limit = describe_max_images(checkpoint)
        return fit, (f"{fit} of {taken} frames are used: {limit}",)
    if not plan.sampling.reduce_to_fit:
        raise PromptError(
            f"{taken} frames and the text take {tokens:,} tokens; "
            f"{describe_budget(checkpoint, room)}",
            hint=f"`--max-frames {fit}` fits",
        )
    return fit, (
        f"{fit} of {taken} frames are used: more do not fit the {checkpoint.context_tokens:,} "
        f"tokens of `{checkpoint.name}`",
    )


def too_few_frames(sources: int, max_frames: int) -> UsageError:
    """Return the error for more sources than frames."""
    return UsageError(
        f"{sources} sources need {sources} frames, more than `--max-frames {max_frames}`",
        hint=f"`--max-frames {sources}`, or name fewer sources",
    )


Plan = TypeVar("Plan", bound=PromptPlan)


def decode_all(
    draft: Plan,
    sources: Sequence[VideoSource],
    reader: str,
    checkpoint: Checkpoint,
    prompt_options: PromptOptions,
    generation: GenerationOptions,
    on_progress: OnProgress,
) -> tuple[Plan, int, tuple[str, ...], tuple[FrameBatch, ...]]:
    """Return the draft with its readers, which are closed, the number of frames, the notices on
    both, and the frames of each source."""
    states = [file_state(source.path) for source in sources]
    with ExitStack() as stack:
        readers = tuple(
            stack.enter_context(open_video(source.path, kind=source.kind, reader=reader))
            for source in sources
        )
        plan = draft.with_readers(readers)
        stills = still_image_notices(plan)
        total, reduced = plan.choose_count(checkpoint, prompt_options, generation)
        decoded = _decoded(plan, total, checkpoint, prompt_options, on_progress)
    batches = zip(decoded, states, strict=True)
    known = tuple(replace(batch, state=state) for batch, state in batches)
    return plan, total, (*stills, *reduced), known


def _decoded(
    plan: PromptPlan,
    total: int,
    checkpoint: Checkpoint,
    options: PromptOptions,
    on_progress: OnProgress,
) -> tuple[FrameBatch, ...]:
    """Decode and transform the frames of all sources; progress counts all of them together."""
    times = plan.times(total)
    split = should_split_images(plan.planned(total), checkpoint, options)
    frames, done = sum(map(len, times)), 0
    batches = []
    for reader, chosen in zip(plan.readers, times, strict=True):
        fit: Callable[[Images], Images] | None
        geometry: str | None
        if reader.metadata.kind == "image" and split:
            geometry, fit = None, None  # tiles are cut from the image at its original size
        else:
            geometry, fit = plan.transform_of(reader, checkpoint, options)
        batches.append(
            sample_frames(
                reader,
                plan.sampling_of(reader),
                times=chosen,
                transform=fit,
                geometry=geometry,
                on_progress=_offset_progress(done, frames, on_progress),
            )
        )
        done += len(chosen)
    return tuple(batches)


def _offset_progress(done: int, total: int, on_progress: OnProgress) -> OnProgress:
    """Wrap ``on_progress`` for one of several sources, adding the frames of earlier ones."""

    def report(progress: Progress) -> None:
        on_progress(replace(progress, done=done + progress.done, total=total))

    return report
