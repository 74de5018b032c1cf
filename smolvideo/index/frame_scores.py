"""Scores of checks given frames of a window: all of them, or a part, which are encoded once."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from smolvideo.calibration import IDENTITY, Scale
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.engines.choices import choice_log_probabilities
from smolvideo.errors import SmolVideoError
from smolvideo.frames import FrameBatch
from smolvideo.index.checks import YES_NO, Check, log_odds
from smolvideo.index.entries import IndexedWindow
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Message, PromptOptions, frame_transform, pack_prompt
from smolvideo.readers import open_video
from smolvideo.sampling import FrameSampling, sample_frames
from smolvideo.source import VideoSource
from smolvideo.summaries.windows import window_batch

_TOKENS_BESIDE_IMAGE = 32
"""Tokens of a frame's time stamp and marks, at most."""
_TOKENS_OF_QUESTION = 1_024


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

    ``scale`` corrects the probabilities of yes and no. ``frames_read`` counts the frames of all
    readings so far.
    """

    def __init__(
        self,
        engine: Engine,
        batch: FrameBatch,
        *,
        options: PromptOptions = PromptOptions(),  # noqa: B008 -- frozen
        scale: Scale = IDENTITY,
        on_progress: OnProgress = no_progress,
    ) -> None:
        self.batch = batch
        self.frames_read = 0
        self._engine = engine
        self._options = options
        self._scale = scale
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
