"""The frames that carry an answer: those that alone keep its score, by halving groups of frames.

A group of frames is sufficient where the model, given nothing else, still says the answer nearly as
surely. Leaving frames out instead would point nowhere where two frames show the same.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from smolvideo.answer import AnswerEvidence, EvidenceFrame, EvidenceVerdict
from smolvideo.evidence.answer_scores import AnswerScores
from smolvideo.formatting import format_clock
from smolvideo.progress import OnProgress, Progress, no_progress

MAX_READINGS = 3.0
"""Frames of all readings together, over those of the prompt."""
MIN_KEPT = 0.8
"""Share of the score, above that of grey frames, at which a group carries the answer."""
_MIN_KEPT_REVERSED = 0.6
"""Below, in reverse order, the answer depends on the order of the frames."""
_MIN_GAIN = 0.1
"""Difference of the scores with and without frames below which the frames are not needed."""
_GROUPS = 8
_MAX_GROUP = 4
"""Frames of the largest group that is pointed at."""
_MAX_PLACES = 3
"""Groups that are halved down to single frames, of those that carry the answer."""


class _OutOfBudgetError(Exception):
    """The next reading would exceed the budget."""


def explain_answer(
    scores: AnswerScores,
    *,
    max_readings: float = MAX_READINGS,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: OnProgress = no_progress,
) -> AnswerEvidence:
    """Return the frames that carry the answer of ``scores``, or why none are named.

    At most ``max_readings`` times the frames of the prompt are read again. Raises ModelError where
    the device fails.
    """
    search = _Search(scores, max_readings, on_progress)
    started = clock()
    verdict, groups = search.run()
    frames = [
        EvidenceFrame(
            scores.positions[place].source,
            scores.positions[place].seconds,
            round(search.kept(group), 4),
        )
        for group in groups
        for place in group
    ]
    return AnswerEvidence(
        verdict=verdict,
        text=_describe(verdict, frames, scores),
        frames=tuple(frames),
        score=round(search.full, 6),
        blank_score=round(search.blank, 6),
        reversed_score=None if search.backwards is None else round(search.backwards, 6),
        readings=round(scores.frames_read / len(scores.positions), 3),
        seconds=round(clock() - started, 3),
    )


@dataclass
class _Search:
    """Readings of one answer's frames, each made once."""

    scores: AnswerScores
    max_readings: float
    on_progress: OnProgress
    full: float = 0.0
    blank: float = 0.0
    backwards: float | None = None
    _known: dict[range, float] = field(default_factory=dict)

    def run(self) -> tuple[EvidenceVerdict, list[range]]:
        """Return the verdict and the groups of frames that carry the answer."""
        total = len(self.scores.positions)
        try:
            self.full = self.scores.all()
            groups = list(_divide(range(total), _GROUPS))
            self.blank = self._read(len(groups[0]), lambda: self.scores.blank(len(groups[0])))
            if self.full - self.blank < _MIN_GAIN:
                return "blind", []
            if total > 1:
                self.backwards = self._read(total, self.scores.reversed)
                if self._share(self.backwards) < _MIN_KEPT_REVERSED:
                    return "order", []
            carrying = [group for group in groups if self._group(group) >= MIN_KEPT]
        except _OutOfBudgetError:
            return "budget", []
        if not carrying:
            return "many", []
        best = [self._narrow(group) for group in self._best_of(carrying)]
        small = [group for group in best if len(group) <= _MAX_GROUP]
        return ("frames", small) if small else ("many", [])

    def kept(self, group: range) -> float:
        """Share of the score that ``group`` alone keeps; it has been read."""
        return self._share(self._known[group])

    def _best_of(self, groups: Sequence[range]) -> list[range]:
        """Return up to ``_MAX_PLACES`` of ``groups``, best first, without neighbours of better
        ones, which show the same more often than not."""
        chosen: list[range] = []
        for group in sorted(groups, key=self._known.__getitem__, reverse=True):
            apart = all(group.stop != one.start and one.stop != group.start for one in chosen)
            if apart and len(chosen) < _MAX_PLACES:
                chosen.append(group)
        return chosen

    def _narrow(self, group: range) -> range:
        """Return the smallest part of ``group`` that carries the answer, by halving."""
        while len(group) > 1:
            try:
                halves = list(_divide(group, 2))
                for half in halves:
                    self._group(half)
            except _OutOfBudgetError:
                break
            best = max(halves, key=self._known.__getitem__)
            if self.kept(best) < MIN_KEPT:
                break
            group = best
        return group

    def _group(self, group: range) -> float:
        if group not in self._known:
            self._known[group] = self._read(len(group), lambda: self.scores.group(group))
        return self.kept(group)

    def _read(self, frames: int, score: Callable[[], float]) -> float:
        """Return a score whose reading takes ``frames`` frames. Raises _OutOfBudgetError."""
        most = max(1.0, self.max_readings) * len(self.scores.positions)
        if self.scores.frames_read + frames > most:
            raise _OutOfBudgetError
        found = score()
        self.on_progress(Progress("explain", min(self.scores.frames_read, most), most))
        return found

    def _share(self, score: float) -> float:
        gain = self.full - self.blank
        return min(1.0, max(0.0, (score - self.blank) / gain)) if gain > 0 else 0.0


def _divide(places: range, parts: int) -> Iterator[range]:
    """Divide ``places`` into ``parts`` of nearly equal length; fewer where there are fewer."""
    parts = min(parts, len(places))
    cuts = [places.start + math.floor(part * len(places) / parts) for part in range(parts + 1)]
    for start, stop in pairwise(cuts):
        yield range(start, stop)


def _describe(
    verdict: EvidenceVerdict, frames: Sequence[EvidenceFrame], scores: AnswerScores
) -> str:
    """Say in words what was found."""
    match verdict:
        case "blind":
            return "the answer does not need the frames: grey frames give it, too"
        case "order":
            return (
                "no single frame carries the answer: it depends on the order of the frames, and "
                "changes when they are reversed"
            )
        case "many":
            return "no single frame and no small group of frames carries the answer"
        case "budget":
            return "the readings did not suffice to find the frames that carry the answer"
    several = len({position.source for position in scores.positions}) > 1
    named = [
        format_clock(frame.time, decimals=1) + f" of source {frame.source + 1}" * several
        for frame in frames
    ]
    if len(frames) == 1:
        return f"the frame at {named[0]} alone keeps {frames[0].kept:.0%} of the answer's score"
    parts = [f"{name} ({frame.kept:.0%})" for name, frame in zip(named, frames, strict=True)]
    return f"frames that alone keep the answer's score: {', '.join(parts)}"
