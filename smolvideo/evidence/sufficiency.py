"""The frames that carry an answer: those that alone keep its score, by halving groups of frames.

A group of frames is sufficient where the model, given nothing else, still says the answer nearly as
surely. Leaving frames out instead would point nowhere where two frames show the same.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

from smolvideo.answer import AnswerEvidence, EvidenceFrame, EvidenceVerdict
from smolvideo.evidence.answer_scores import AnswerScores
from smolvideo.progress import OnProgress, Progress, no_progress

MAX_READINGS = 3.0
"""Frames of all readings together, over those of the prompt."""
MIN_KEPT = 0.8
"""Share of the score, above that of grey frames, at which a group carries the answer."""
_MIN_KEPT_REVERSED = 0.6
"""Below, in reverse order, the answer depends on the order of the frames."""
_MIN_GAIN = 0.1
"""Share of the score that grey frames must take away; else the frames are not needed."""
_GROUPS = 8
_SPARSE = 2
"""Frames that are read of each group at first."""
_MAX_GROUP = 4
"""Frames of the largest group that is pointed at."""
_MIN_FRAMES = 20
"""Prompts of fewer frames have the budget of this many: their readings cost next to nothing."""
_MAX_PLACES = 3
"""Groups that are halved down to single frames, of those that carry the answer."""


Group = tuple[int, ...]
"""Places of frames, in order."""


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
    places = [(place, round(search.kept(group), 4)) for group in groups for place in group]
    frames = [
        EvidenceFrame(scores.positions[place].source, scores.positions[place].seconds, kept)
        for place, kept in places
    ]
    names = [scores.positions[place].name for place, _ in places]
    return AnswerEvidence(
        verdict=verdict,
        text=_describe(verdict, frames, names),
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
    _known: dict[Group, float] = field(default_factory=dict)

    def run(self) -> tuple[EvidenceVerdict, list[Group]]:
        """Return the verdict and the groups of frames that carry the answer."""
        places = tuple(range(len(self.scores.positions)))
        try:
            self.full = self.scores.all()
            groups = list(_divide(places, _GROUPS))
            few = min(_SPARSE, len(groups[0]))
            self.blank = self._read(few, lambda: self.scores.blank(few))
            if self.full - self.blank < _MIN_GAIN * self.full:
                return "blind", []
            carrying = self._carrying([_spread(group, _SPARSE) for group in groups])
            if not carrying:
                carrying = self._carrying(groups)
            if not carrying:
                return "many", []
            best = self._best_of(carrying)
            if len(places) > 1 and self._depends_on_order(groups, best[0]):
                return "order", []
        except _OutOfBudgetError:
            return "budget", []
        small = [group for group in map(self._narrow, best) if len(group) <= _MAX_GROUP]
        small.sort(key=self.kept, reverse=True)  # narrowing changes what is kept
        return ("frames", small) if small else ("many", [])

    def _carrying(self, groups: Sequence[Group]) -> dict[int, Group]:
        """Return those of ``groups`` that carry the answer, by their numbers."""
        return {
            number: group for number, group in enumerate(groups) if self._group(group) >= MIN_KEPT
        }

    def _depends_on_order(self, groups: Sequence[Group], best: Group) -> bool:
        """Whether ``best`` and a frame of each group say something else in reverse order.

        Reading them in order, for comparison, is left out where enough is kept in reverse.
        """
        middles = {group[len(group) // 2] for group in groups}
        places = tuple(sorted(middles | {*best}))
        moved, others = best[::-1], tuple(sorted(middles - {*best}, reverse=True))
        # At the beginning and at the end: what is in the middle stays there in reverse order.
        for shown in (moved + others, others + moved):
            found = self._read(len(places), partial(self.scores.reordered, shown, places))
            self.backwards = found if self.backwards is None else min(self.backwards, found)
            share = self._share(found)
            if share < _MIN_KEPT_REVERSED and share < _MIN_KEPT_REVERSED * self._group(places):
                return True
        return False

    def kept(self, group: Group) -> float:
        """Share of the score that ``group`` alone keeps; it has been read."""
        return self._share(self._known[group])

    def _best_of(self, groups: Mapping[int, Group]) -> list[Group]:
        """Return up to ``_MAX_PLACES`` of the numbered ``groups``, best first, without neighbours
        of better ones, which show the same more often than not."""
        chosen: list[int] = []
        for number in sorted(groups, key=lambda at: self._known[groups[at]], reverse=True):
            apart = all(abs(number - other) > 1 for other in chosen)
            if apart and len(chosen) < _MAX_PLACES:
                chosen.append(number)
        return [groups[number] for number in chosen]

    def _narrow(self, group: Group) -> Group:
        """Return the smallest part of ``group`` that carries the answer, by halving.

        The second half is not read where the first keeps as much as both.
        """
        while len(group) > 1:
            first, second = _divide(group, 2)
            try:
                if self._group(first) < max(MIN_KEPT, self.kept(group)):
                    self._group(second)
            except _OutOfBudgetError:
                break
            best = max((first, second), key=lambda half: self._known.get(half, -math.inf))
            if self.kept(best) < MIN_KEPT:
                break
            group = best
        return group

    def _group(self, group: Group) -> float:
        if group not in self._known:
            self._known[group] = self._read(len(group), lambda: self.scores.group(group))
        return self.kept(group)

    def _read(self, frames: int, score: Callable[[], float]) -> float:
        """Return a score whose reading takes ``frames`` frames. Raises _OutOfBudgetError."""
        most = max(1.0, self.max_readings) * max(_MIN_FRAMES, len(self.scores.positions))
        if self.scores.frames_read + frames > most:
            raise _OutOfBudgetError
        found = score()
        self.on_progress(Progress("explain", min(self.scores.frames_read, most), most))
        return found

    def _share(self, score: float) -> float:
        gain = self.full - self.blank
        return min(1.0, max(0.0, (score - self.blank) / gain)) if gain > 0 else 0.0


def _divide(places: Group, parts: int) -> Iterator[Group]:
    """Divide ``places`` into ``parts`` of nearly equal length; fewer where there are fewer."""
    parts = min(parts, len(places))
    cuts = [part * len(places) // parts for part in range(parts + 1)]
    for start, stop in pairwise(cuts):
        yield places[start:stop]


def _spread(group: Group, count: int) -> Group:
    """Return ``count`` of ``group``, evenly spread; all of a group that is not twice as long."""
    if len(group) < 2 * count:
        return group
    return tuple(group[(2 * part + 1) * len(group) // (2 * count)] for part in range(count))


def _describe(
    verdict: EvidenceVerdict, frames: Sequence[EvidenceFrame], names: Sequence[str]
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
    if len(frames) == 1:
        return f"{_at(names[0])} alone keeps {frames[0].kept:.0%} of the answer's score"
    parts = [f"{name} ({frame.kept:.0%})" for name, frame in zip(names, frames, strict=True)]
    return f"frames that alone keep the answer's score: {', '.join(parts)}"


def _at(name: str) -> str:
    """``the frame at 0:08.5``, ``frame #3``, ``picture 2``."""
    if name.startswith("picture"):
        return name
    return f"frame {name}" if name.startswith("#") else f"the frame at {name}"
