"""Scores of checks given frames of a window: all of them, or a part, which are encoded once."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from smolvideo.calibration import IDENTITY, Scale
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.engines.choices import choice_log_probabilities
from smolvideo.errors import SmolVideoError
from smolvideo.frames import FrameBatch, Images
from smolvideo.index.checks import YES_NO, Check, log_odds
from smolvideo.index.entries import IndexedWindow
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, PromptOptions, frame_transform, pack_prompt
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, sample_frames
from smolvideo.sampling.options import subsample
from smolvideo.source import VideoSource
from smolvideo.summaries.windows import (
    MIN_DIFFERENCE,
    MIN_RATIO,
    frame_difference,
    thumbnail,
    window_batch,
)

_TOKENS_BESIDE_IMAGE = 32
"""Tokens of a frame's time stamp and marks, at most."""
_TOKENS_OF_QUESTION = 1_024


@dataclass(frozen=True)
class WindowFrames:
    """The frames of a window, and those of the windows next to it where they were decoded, too."""

    window: IndexedWindow
    batch: FrameBatch
    before: "WindowFrames | None" = None
    after: "WindowFrames | None" = None

    def of_shot(self, places: Sequence[int]) -> FrameBatch | None:
        """Return the frames of the shot that those at ``places`` are in, where it goes on in a
        window next to this one, as many as a window has; None where it does not."""
        parts = [part for part in (self.before, self, self.after) if part is not None]
        images = np.concatenate([part.batch.images for part in parts])
        own = 0 if self.before is None else len(self.before.batch)
        first, last = places[0] + own, places[-1] + own
        for shot in split_at_cuts(images):
            if first in shot and places[0] == 0:
                first = shot[0]
            if last in shot and places[-1] == len(self.batch) - 1:
                last = shot[-1]
        if (first, last) == (places[0] + own, places[-1] + own):
            return None
        times = [part.window.start_seconds + t for part in parts for t in part.batch.pts_seconds]
        chosen = subsample(range(first, last + 1), len(self.batch))
        return window_batch(
            images[[*chosen]],
            [times[place] for place in chosen],
            times[first],
            times[last] + self.window.step_seconds,
            self.batch.metadata,
            self.batch.geometry,
        )


@dataclass(frozen=True)
class WindowDecoder:
    """Decodes the frames of windows as they were when the windows were indexed."""

    engine: Engine
    options: PromptOptions
    reader: str = "auto"

    def decode(
        self, source: VideoSource, windows: Sequence[IndexedWindow]
    ) -> Iterator[FrameBatch | SmolVideoError]:
        """Yield the frames of each window of one video, in ascending order; the error of one does
        not keep the others from being decoded. Raises ReaderError where the video cannot be opened.
        """
        geometry, fit = frame_transform(self.engine.checkpoint, self.options)
        with ExitStack() as stack:
            opened = stack.enter_context(
                open_video(source.path, kind=source.kind, reader=self.reader)
            )
            for window in windows:
                try:
                    batch = sample_frames(
                        opened,
                        FrameSampling(),
                        times=window.frame_times,
                        transform=fit,
                        geometry=geometry,
                    )
                except SmolVideoError as error:
                    yield error
                    continue
                yield window_batch(
                    batch.images,
                    batch.pts_seconds,
                    window.start_seconds,
                    window.end_seconds,
                    opened.metadata,
                    geometry,
                )


class FrameScores:
    """Log-odds of checks given groups of the frames of ``batch``, which are encoded once.

    ``around`` are the frames of the windows next to it. ``scale`` corrects the probabilities of yes
    and no. ``frames_read`` counts the frames of all readings so far.
    """

    def __init__(
        self,
        engine: Engine,
        batch: FrameBatch,
        *,
        around: WindowFrames | None = None,
        options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
        scale: Scale = IDENTITY,
        on_progress: OnProgress = no_progress,
    ) -> None:
        self.batch = batch
        self.frames_read = 0
        self._engine = engine
        self._options = options
        self._scale = scale
        self._around = around
        self._session: Session | None = None
        if isinstance(engine, SessionEngine):
            room = len(batch) * (engine.checkpoint.tokens_per_image + _TOKENS_BESIDE_IMAGE)
            self._session = engine.open_session(
                cache_capacity=min(room + _TOKENS_OF_QUESTION, engine.checkpoint.context_tokens)
            )
            self._session.encode(batch.images, on_progress=on_progress)

    def log_odds(self, checks: Sequence[Check], places: Sequence[int] | None = None) -> float:
        """Return the log-odds that all ``checks`` are confirmed by the frames at ``places``, or by
        all. The KV cache of the frames is shared by the checks.

        Raises PromptError where the frames do not fit, ModelError where the device fails.
        """
        scorer: Engine | Session = self._session or self._engine
        batch = self.batch
        if places is not None and len(places) < len(batch):
            batch = replace(
                batch,
                images=batch.images[[*places]],
                pts_seconds=tuple(batch.pts_seconds[place] for place in places),
            )
            if self._session is not None:
                scorer = self._session.select_images(places)
        return log_odds(checks, self._reader(scorer, batch))

    def log_odds_of_shot(self, checks: Sequence[Check], places: Sequence[int]) -> float:
        """Return the log-odds of ``checks`` given the shot of the frames at ``places``, also where
        it goes on in the next window: a motion takes time. Raises as ``log_odds``."""
        batch = None if self._around is None else self._around.of_shot(places)
        if batch is None:
            return self.log_odds(checks, places)
        other = FrameScores(self._engine, batch, options=self._options, scale=self._scale)
        odds = other.log_odds(checks)
        self.frames_read += other.frames_read
        return odds

    def _reader(
        self, scorer: Engine | Session, batch: FrameBatch
    ) -> Callable[[Check], Sequence[float]]:
        def probabilities(check: Check) -> Sequence[float]:
            message = Message("user", (batch, check.question))
            checkpoint = self._engine.checkpoint
            prompt = pack_prompt((message,), checkpoint, self._options)
            self.frames_read += len(batch)
            if len(check.choices) == 1:
                return [math.exp(one) for one in scorer.score(prompt, check.choices)]
            found = choice_log_probabilities(
                scorer, checkpoint, prompt, check.choices, as_spelled=checkpoint.is_nano
            )
            scale = self._scale if check.choices == YES_NO else IDENTITY
            return scale.probabilities(found)

        return probabilities


def split_at_cuts(images: Images) -> list[tuple[int, ...]]:
    """Return the frames ``[N, H, W, 3]`` of each shot, as indices: a cut is where a summary would
    end a window."""
    small = [thumbnail(image) for image in images]
    changes = [frame_difference(one, other) for one, other in pairwise(small)]
    usual = float(np.median(changes)) if changes else 0.0
    least = max(MIN_DIFFERENCE, MIN_RATIO * usual)
    starts = [0, *(place for place, change in enumerate(changes, start=1) if change >= least)]
    return [tuple(range(a, b)) for a, b in pairwise([*starts, len(images)])]
