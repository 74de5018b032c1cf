"""Scores of one answer given some of its frames, whose features are computed once.

A reading is the same prompt with a subset of the frames, perhaps in another order under the same
time stamps. Its frames are not encoded again: the features are those of the answer itself.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from smolvideo.answer import Answer, AnswerEvidence
from smolvideo.engines import Engine, Session, SessionEngine
from smolvideo.engines.choices import choice_log_probabilities
from smolvideo.errors import UsageError
from smolvideo.evidence.other_frames import frame_batches, pack_with, select_frames
from smolvideo.formatting import format_clock
from smolvideo.frames import FrameBatch, blank_images
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress
from smolvideo.prompt import Prompt

_ROOM = 64
"""Tokens of room for an answer that is tokenized again, perhaps into more tokens."""


@dataclass(frozen=True)
class FramePosition:
    """A frame of the prompt: its source (from 0), its place in the batch, its time in seconds, and
    its name for the user."""

    source: int
    index: int
    seconds: float
    name: str


class AnswerScores:
    """Scores of ``answer`` given groups of the frames of ``prepared``.

    ``session`` holds the features of the prompt's frames, or encodes them now. ``positions`` are
    the frames in the order of the prompt; ``frames_read`` counts those of all readings so far. A
    score is the mean probability of a token of the answer (the geometric mean, with the end of the
    turn); of given choices, the probability of the one that was chosen.

    Raises UsageError for an answer without text and for images that are split into tiles.
    """

    def __init__(
        self,
        session: Session,
        checkpoint: Checkpoint,
        prepared: PreparedPrompt,
        answer: Answer,
        *,
        on_progress: OnProgress = no_progress,
    ) -> None:
        self._checkpoint, self._prepared, self._answer = checkpoint, prepared, answer
        if not answer.text.strip():
            raise UsageError("an answer without text has no frames that carry it")
        self._batches = frame_batches(prepared)
        self.positions = tuple(
            FramePosition(source, index, seconds, _name(self._batches, source, index))
            for source, batch in enumerate(self._batches)
            for index, seconds in enumerate(batch.pts_seconds)
        )
        if len(self.positions) != len(prepared.prompt.images):
            raise UsageError(
                "the frames that carry an answer cannot be found where pictures are split",
                hint="leave `--split-images` out",
            )
        session.encode(prepared.prompt.images, on_progress=on_progress)
        self._session = session
        self._blank: Session | None = None
        self.frames_read = 0

    def all(self) -> float:
        """Return the score given all frames; the prefix of the answer's own prompt is reused."""
        return self._score(self._session, self._prepared.prompt)

    def group(self, places: Sequence[int]) -> float:
        """Return the score given the frames at ``places`` of ``positions`` alone, in order."""
        return self.reordered(places, places)

    def reordered(self, shown: Sequence[int], at: Sequence[int]) -> float:
        """Return the score given the frames ``shown`` under the time stamps of the frames ``at``.

        Both are the same places of ``positions``; frames stay within their sources.
        """
        self.frames_read += len(shown)
        by_source = sorted(shown, key=lambda place: self.positions[place].source)
        return self._score(self._session.select_images(by_source), self._prompt(shown, at))

    def blank(self, count: int) -> float:
        """Return the score given ``count`` grey frames in place of the first ones."""
        places = range(count)
        prompt = self._prompt(places, places)
        grey = blank_images(prompt.images)
        if self._blank is None:
            self._blank = self._session.select_images([])
            self._blank.encode(grey[:1])
        self.frames_read += count
        session = self._blank.select_images([0] * count)
        return self._score(session, replace(prompt, images=grey))

    def _score(self, session: Session, prompt: Prompt) -> float:
        answer = self._answer
        if answer.choices is not None:
            choices = [*answer.choices.probabilities]
            found = choice_log_probabilities(session, self._checkpoint, prompt, choices)
            top = max(found)
            weights = [math.exp(one - top) for one in found]
            return weights[choices.index(answer.text)] / sum(weights)
        with_end = answer.stop_reason == "end"
        (total,) = session.score(prompt, [answer.text], with_end=with_end)
        return math.exp(total / max(1, answer.usage.answer_tokens))

    def _prompt(self, shown: Sequence[int], at: Sequence[int]) -> Prompt:
        batches: list[FrameBatch | None] = []
        for source, batch in enumerate(self._batches):
            indices = [self.positions[one].index for one in shown if self._is_of(one, source)]
            times = [self.positions[one].seconds for one in at if self._is_of(one, source)]
            batches.append(select_frames(batch, indices, times) if indices else None)
        return pack_with(self._prepared, batches, self._checkpoint)

    def _is_of(self, place: int, source: int) -> bool:
        return self.positions[place].source == source


def _name(batches: Sequence[FrameBatch], source: int, index: int) -> str:
    """Name a frame by its time, or by its number where it has no clock; with its source where
    there are several: ``0:08.5 of source 2``."""
    batch = batches[source]
    if batch.metadata.kind == "image":
        return f"picture {source + 1}" if len(batches) > 1 else "picture"
    name = f"#{index + 1}"
    if batch.metadata.kind == "video":
        name = format_clock(batch.pts_seconds[index], decimals=1)
    return f"{name} of source {source + 1}" if len(batches) > 1 else name


def frames_of_evidence(batches: Sequence[FrameBatch], evidence: AnswerEvidence) -> list[FrameBatch]:
    """Return the frames of ``evidence``, of each of ``batches`` that has some: those of its
    sources, in their order."""
    found = []
    for source, batch in enumerate(batches):
        times = {frame.time for frame in evidence.frames if frame.source == source}
        indices = [index for index, time in enumerate(batch.pts_seconds) if time in times]
        if indices:
            found.append(select_frames(batch, indices))
    return found


def open_session(engine: Engine, prepared: PreparedPrompt) -> Session | None:
    """Open a session with room for the prompt and its answer; None if the engine has none."""
    if not isinstance(engine, SessionEngine):
        return None
    tokens = len(prepared.prompt) + prepared.generation.max_new_tokens + _ROOM
    return engine.open_session(cache_capacity=min(tokens, engine.checkpoint.context_tokens))


def require_sessions(engine: Engine) -> SessionEngine:
    """Return ``engine``, which keeps the features of frames. Raises UsageError where it does
    not."""
    if isinstance(engine, SessionEngine):
        return engine
    raise UsageError(
        f"the engine `{engine.name}` does not keep the features of frames, and finding the frames "
        "that carry an answer would encode them again and again",
        hint="run with `--engine native`",
    )
