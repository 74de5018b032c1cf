"""Two videos in one prompt, their frames interleaved by time, to ask what differs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from smolvideo.engines import GenerationOptions
from smolvideo.errors import UsageError
from smolvideo.formatting import format_timestamp
from smolvideo.frames import FrameBatch, FramePlan
from smolvideo.models import Checkpoint
from smolvideo.pipeline.prepare_prompt import PromptPlan, prepare_plan
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, PromptOptions, check_question
from smolvideo.sampling import FrameSampling
from smolvideo.source import Sources, resolve_all

COMPARE_QUESTION = "What differs between video 1 and video 2?"
_INTRO = "Frames of two videos on one time axis.\n"
_LABEL = "\nVideo {number}, frame from {stamp}:"


_NANO_NOTICE = "nano cannot tell two videos apart: it gets their frames as if they were of one"


@dataclass(frozen=True)
class ComparisonPlan(PromptPlan):
    """The open videos of a comparison: each frame is labelled with its video and its time.

    nano was trained on frames with time stamps alone, so that it gets no other labels.
    """

    is_nano: bool = False

    def messages(self, media: Sequence[FrameBatch | FramePlan]) -> tuple[Message, ...]:
        """Return one message with the frames of all ``media`` in the order of their times."""
        frames = sorted(
            (seconds, number, index)
            for number, batch in enumerate(media)
            for index, seconds in enumerate(batch.pts_seconds)
        )
        content: list[str | FrameBatch | FramePlan] = [] if self.is_nano else [_INTRO]
        for seconds, number, index in frames:
            if not self.is_nano:
                stamp = format_timestamp(seconds)
                content.append(_LABEL.format(number=number + 1, stamp=stamp))
            content.append(_single_frame(media[number], index, stamped=self.is_nano))
        if self.subtitles and self.subtitles.strip():
            content.append(f"\n{self.subtitles.strip()}")
        content.append(self.question if self.is_nano else f"\n\n{self.question}")
        return (*self.history, Message("user", tuple(content)))


def prepare_comparison(
    checkpoint: Checkpoint,
    sources: Sources,
    question: str = COMPARE_QUESTION,
    *,
    sampling: FrameSampling = FrameSampling(),  # noqa: B008 -- frozen
    prompt_options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
    generation: GenerationOptions = GenerationOptions(),  # noqa: B008 -- frozen
    reader: str = "auto",
    notices: Iterable[str] = (),
    on_progress: OnProgress = no_progress,
) -> PreparedPrompt:
    """Prepare a question about two videos, whose frames are interleaved by time.

    The videos share ``sampling.max_frames`` evenly, and a short one leaves its rest to the other;
    times count from the beginning of each. Raises as ``prepare``, and UsageError unless there are
    two videos or folders of frames.
    """
    check_question(question)
    given = resolve_all(sources, on_progress=on_progress)
    if len(given) != 2 or any(source.kind == "image" for source in given):
        raise UsageError(
            "a comparison is of two videos",
            hint='`smolvideo ask A.jpg B.jpg "What has changed?"` compares pictures',
        )
    is_nano = (prompt_options.layout or checkpoint.layout) == "nano"
    prepared = prepare_plan(
        ComparisonPlan((), sampling, question, None, (), is_nano),
        given,
        checkpoint,
        prompt_options=prompt_options,
        generation=generation,
        reader=reader,
        notices=(*((_NANO_NOTICE,) if is_nano else ()), *notices),
        on_progress=on_progress,
    )
    return replace(prepared, interleaved=True)


def _single_frame(
    batch: FrameBatch | FramePlan, index: int, *, stamped: bool
) -> FrameBatch | FramePlan:
    """Return one frame as an image, without the introduction that layouts give to a video; or, with
    ``stamped``, as a video."""
    metadata = batch.metadata if stamped else replace(batch.metadata, kind="image")
    times = (batch.pts_seconds[index],)
    if isinstance(batch, FramePlan):
        return FramePlan(times, metadata)
    return FrameBatch(batch.images[index : index + 1], times, metadata, batch.geometry)
