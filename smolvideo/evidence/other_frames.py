"""The same prompt with other frames: a subset, grey, shuffled, or shifted in time."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from smolvideo.frames import FrameBatch, blank_images
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, load_frames
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, Prompt, PromptOptions, frame_transform, pack_prompt


def frame_batches(prepared: PreparedPrompt) -> list[FrameBatch]:
    """Return the frames of each source, in the order of the prompt."""
    return [
        item
        for message in prepared.messages
        for item in message.content
        if isinstance(item, FrameBatch)
    ]


def pack_with(
    prepared: PreparedPrompt, batches: Sequence[FrameBatch | None], checkpoint: Checkpoint
) -> Prompt:
    """Return the prompt of ``prepared`` with ``batches`` in place of its frames, a source each;
    None leaves a source out."""
    messages = _with_batches(prepared.messages, batches)
    return pack_prompt(messages, checkpoint, prepared.prompt_options)


def blank_prompt(prompt: Prompt, checkpoint: Checkpoint, options: PromptOptions) -> Prompt:
    """Return ``prompt``, which was packed from messages, with grey frames."""
    items = (item for message in prompt.messages for item in message.content)
    blank = [blank_frames(item) for item in items if isinstance(item, FrameBatch)]
    return pack_prompt(_with_batches(prompt.messages, blank), checkpoint, options)


def _with_batches(
    messages: Sequence[Message], batches: Sequence[FrameBatch | None]
) -> list[Message]:
    rest = iter(batches)
    found = []
    for message in messages:
        content = [next(rest) if isinstance(item, FrameBatch) else item for item in message.content]
        kept = tuple(item for item in content if item is not None)
        found.append(Message(message.role, kept, message.preamble))
    return found


def select_frames(
    batch: FrameBatch, indices: Sequence[int], times: Sequence[float] | None = None
) -> FrameBatch:
    """Return the frames of ``batch`` at ``indices``, under their own times or under ``times``."""
    chosen = [batch.pts_seconds[index] for index in indices] if times is None else times
    return replace(batch, images=batch.images[[*indices]], pts_seconds=tuple(chosen))


def blank_frames(batch: FrameBatch) -> FrameBatch:
    """Return ``batch`` with all images in one even grey."""
    return replace(batch, images=blank_images(batch.images))


def shuffle_frames(batch: FrameBatch, seed: str) -> FrameBatch:
    """Return the images of ``batch`` in another order, under the same times."""
    return replace(batch, images=batch.images[list(shuffled(len(batch), seed))])


def sampling_step(batch: FrameBatch) -> float | None:
    """Return the median distance of the frames in seconds; None without a clock, or for one
    frame."""
    if batch.metadata.kind != "video" or len(batch) < 2:
        return None
    return median(after - before for before, after in pairwise(batch.pts_seconds))


def shuffled(count: int, seed: str) -> tuple[int, ...]:
    """Return a permutation that depends on the seed alone, on every machine."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return tuple(order)


def shift_frames(
    prepared: PreparedPrompt, checkpoint: Checkpoint, *, on_progress: OnProgress = no_progress
) -> list[FrameBatch] | None:
    """Return the frames half a sampling step later, of each source; None where none has a clock.

    The step is the median distance of the frames; none is taken after the last frame of the video.
    Images and folders of frames stay as they are. Raises as ``load_frames``.
    """
    geometry, fit = frame_transform(checkpoint, prepared.prompt_options)
    found, has_shifted = [], False
    for batch in frame_batches(prepared):
        times = shifted_times(batch)
        place = next((at for at, one in enumerate(prepared.batches) if one is batch), None)
        if times is None or place is None:
            found.append(batch)
            continue
        has_shifted = True
        found.append(
            load_frames(
                prepared.sources[place],
                prepared.sampling,
                reader=prepared.reader,
                fit=fit,
                geometry=geometry,
                times=times,
                on_progress=on_progress,
            )
        )
    return found if has_shifted else None


def shifted_times(batch: FrameBatch) -> list[float] | None:
    """Return the times half a sampling step later; None without a clock, or for one frame."""
    step = sampling_step(batch)
    if step is None:
        return None
    last = batch.metadata.last_pts_seconds
    end = batch.metadata.duration_seconds if last is None else last
    return [max(time, min(time + step / 2, end)) for time in batch.pts_seconds]
