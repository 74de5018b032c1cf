"""Confirm a candidate by its frames, and narrow it to those that show the query.

The frames of a window are read together, then by halves: a thing that is there for a moment may be
missed among the others. A half that shows it is halved again, down to single frames, which are the
moment. What a single frame cannot tell, such as which way something moves, is asked about the
frames of that moment.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from smolvideo.index.checks import Check
from smolvideo.index.frame_scores import FrameScores, split_at_cuts
from smolvideo.index.hits import Evidence
from smolvideo.index.search_types import Candidate
from smolvideo.index.text_match import TextMatch

_NOTE_WEIGHT = 1.0
"""Log-odds that a note adds where it has all words of the query, and takes where it has none."""
_TEXT_DOUBT = 0.4
"""Probability that a word that was written or said is not what the query is about; of several
words, its power."""
_UNASKED = 0.1
"""Probability of what was not asked about a thing that is surely absent."""
_SURELY_ABSENT = -4.0
"""Log-odds of all frames below which halves are not read, unless the note has all words of the
query."""


@dataclass(frozen=True)
class Finding:
    """A part of a window that shows the query with the probability ``score``."""

    candidate: Candidate
    start_seconds: float
    end_seconds: float
    score: float
    evidence: Evidence
    log_odds: float | None = None
    frame_times: tuple[float, ...] = ()


def text_finding(candidate: Candidate) -> Finding:
    """Return the finding of a window by its texts alone; the score is the share of the query's
    words."""
    match = candidate.match
    if match.cues > max(match.note, match.screen):
        return _said(candidate, match.cues)
    window = candidate.window
    evidence: Evidence = "text" if match.screen >= match.note > 0 else "notes"
    return Finding(
        candidate,
        window.start_seconds,
        window.end_seconds,
        max(match.note, match.screen),
        evidence,
        frame_times=window.frame_times,
    )


def confirm(
    candidate: Candidate,
    scores: FrameScores,
    checks: Sequence[Check],
    *,
    min_score: float,
    doubt: float = 1.0,
) -> Finding:
    """Return the finding of a window by its frames and its texts, narrowed to the moment where the
    score is at least ``min_score``; what the frames say is multiplied by ``doubt``."""
    match, window = candidate.match, candidate.window
    said = _text_probability(match.cues, match.terms)
    written = _text_probability(match.screen, match.terms)
    if not checks:
        written = max(written, _text_probability(match.note, match.terms))
        if said > written:
            return _said(candidate, said)
        return Finding(
            candidate,
            window.start_seconds,
            window.end_seconds,
            written,
            "text" if match.screen >= match.note else "notes",
            frame_times=window.frame_times,
        )
    reading = _Reading(scores, checks)
    odds, frames = reading.moment(thorough=match.note == 1)
    seen = doubt * _sigmoid(odds + _NOTE_WEIGHT * (2 * match.note - 1))
    if said > max(seen, written):
        return _said(candidate, said, odds)
    score = max(seen, written)
    evidence: Evidence = "frames" if seen >= written else "text"
    if score < min_score or evidence != "frames":
        frames = tuple(range(len(scores.batch)))
    start, end = _bounds(candidate, scores, frames)
    times = tuple(window.start_seconds + scores.batch.pts_seconds[place] for place in frames)
    return Finding(candidate, start, end, score, evidence, odds, times)


def _said(candidate: Candidate, score: float, odds: float | None = None) -> Finding:
    """Return the finding of the subtitles that have words of the query, from first to last."""
    cues, window = candidate.match.matching_cues, candidate.window
    start = max(window.start_seconds, min(cue.start_seconds for cue in cues))
    end = min(window.end_seconds, max(cue.end_seconds for cue in cues))
    return Finding(candidate, start, max(start, end), score, "subtitles", odds)


def doubt_of(match: TextMatch) -> float:
    """Return the factor for words that the frames cannot confirm: the doubt in those that a text
    has, and a half for each that none has."""
    found = round(match.terms * match.best)
    said = _text_probability(1.0, found) if found else 1.0
    return said * 0.5 ** (match.terms - found)


def _text_probability(share: float, terms: int) -> float:
    """Return the probability that texts with ``share`` of ``terms`` words are about the query."""
    return share**4 * (1 - _TEXT_DOUBT**terms)


@dataclass
class _Reading:
    """Log-odds of groups of frames of a window."""

    scores: FrameScores
    checks: Sequence[Check]

    def __post_init__(self) -> None:
        self._presence = [check for check in self.checks if check.is_presence]
        self._others = [check for check in self.checks if not check.is_presence]

    def moment(self, *, thorough: bool) -> tuple[float, tuple[int, ...]]:
        """Return the log-odds that the window shows the query, and the frames that show it.

        Shots are read one by one: a model answers poorly about frames of several scenes at once.
        """
        shots = split_at_cuts(self.scores.batch.images)
        if len(shots) == 1:
            return self._part(shots[0], thorough=thorough)
        parts = [self._part(shot, thorough=False) for shot in shots]
        best = max(odds for odds, _ in parts)
        showing = [frames for odds, frames in parts if odds > 0]
        if not showing:
            return best, tuple(place for shot in shots for place in shot)
        return best, tuple(range(showing[0][0], showing[-1][-1] + 1))

    def _part(self, places: tuple[int, ...], *, thorough: bool) -> tuple[float, tuple[int, ...]]:
        """Return the log-odds that frames of one shot show the query, and those that show it."""
        whole = self._ask(self._presence, places)
        if len(places) == 1 or (whole < _SURELY_ABSENT and not thorough):
            return self._with_others(whole, places), places
        best, frames = whole, self._showing(places, whole)
        if self._halves:
            best = max(best, *self._halves)
        if not frames:
            return self._with_others(best, places), places
        moment = tuple(range(frames[0], frames[-1] + 1))
        return self._with_others(best, moment), moment

    def _showing(self, places: tuple[int, ...], odds: float) -> list[int]:
        """Return the frames that show it, by halving the groups in which it is seen."""
        self._halves: list[float] = []
        found: list[int] = []
        waiting = [(places, odds)]
        is_first = True
        while waiting:
            group, odds = waiting.pop()
            if len(group) == 1:
                if odds > 0:
                    found.append(group[0])
                continue
            if odds <= 0 and not is_first:
                continue
            middle = len(group) // 2
            halves = [
                (part, self._ask(self._presence, part)) for part in (group[:middle], group[middle:])
            ]
            if is_first:
                self._halves = [value for _, value in halves]
            is_first = False
            waiting += halves
        return sorted(found)

    def _with_others(self, presence: float, places: tuple[int, ...]) -> float:
        """Add the checks that need several frames, asked about the shot of the moment; of what is
        surely absent nothing is asked."""
        if not self._others:
            return presence
        if self._presence and presence < _SURELY_ABSENT:
            return presence + math.log(_UNASKED)
        others = self.scores.log_odds_of_shot(self._others, places)
        return _logit(_sigmoid(presence) * _sigmoid(others))

    def _ask(self, checks: Sequence[Check], places: tuple[int, ...]) -> float:
        return self.scores.log_odds(checks, places) if checks else 0.0


def _bounds(
    candidate: Candidate, scores: FrameScores, frames: Sequence[int]
) -> tuple[float, float]:
    """Return when the moment begins and ends: half-way to the frames beside it, which do not show
    it, or with the window."""
    window, times = candidate.window, scores.batch.pts_seconds
    first, last = frames[0], frames[-1]
    start, end = window.start_seconds, window.end_seconds
    if first > 0:
        start = window.start_seconds + (times[first - 1] + times[first]) / 2
    if last < len(times) - 1:
        end = window.start_seconds + (times[last] + times[last + 1]) / 2
    return start, max(start, end)


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))


def _logit(p: float) -> float:
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))
