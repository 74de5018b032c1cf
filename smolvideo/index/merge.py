"""Findings of neighbouring windows that touch, as one hit."""

from collections.abc import Sequence
from itertools import pairwise

from smolvideo.index.confirm import Finding
from smolvideo.index.hits import Hit


def merge_findings(findings: Sequence[Finding], *, limit: int) -> tuple[Hit, ...]:
    """Return the ``limit`` best hits; findings of one video that touch are one hit, with the best
    score of them."""
    ordered = sorted(findings, key=lambda one: (one.candidate.video.path, one.start_seconds))
    groups: list[list[Finding]] = [[one] for one in ordered[:1]]
    for before, one in pairwise(ordered):
        if _touch(before, one):
            groups[-1].append(one)
        else:
            groups.append([one])
    hits = [_hit(group) for group in groups]
    hits.sort(key=lambda hit: (-hit.score, hit.path, hit.start_seconds))
    return tuple(hits[:limit])


def _touch(before: Finding, one: Finding) -> bool:
    if before.candidate.video.path != one.candidate.video.path:
        return False
    if one.candidate.window.number != before.candidate.window.number + 1:
        return False
    step = max(before.candidate.window.step_seconds, one.candidate.window.step_seconds)
    return one.start_seconds - before.end_seconds <= step / 2


def _hit(group: Sequence[Finding]) -> Hit:
    best = max(group, key=lambda one: one.score)
    window, video = best.candidate.window, best.candidate.video
    cues = dict.fromkeys(cue.text for one in group for cue in one.candidate.match.matching_cues)
    return Hit(
        path=video.path,
        start_seconds=round(group[0].start_seconds, 3),
        end_seconds=round(max(one.end_seconds for one in group), 3),
        score=round(best.score, 6),
        note=window.note,
        screen_text=window.screen_text,
        subtitles=" ".join(cues),
        evidence=best.evidence,
        log_odds=None if best.log_odds is None else round(best.log_odds, 4),
        sha256=video.sha256,
        frame_times=tuple(time for one in group for time in one.frame_times),
    )
