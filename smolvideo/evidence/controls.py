"""Controls of an answer: the same question with grey, shuffled and shifted frames.

An answer that grey frames give, too, was not seen in the video. One that changes half a sampling
step later depends on which frames were chosen.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from smolvideo.answer import Answer, AnswerCheck, CheckVerdict
from smolvideo.calibration import Calibration
from smolvideo.engines import Engine, Session
from smolvideo.evidence.other_frames import (
    blank_frames,
    frame_batches,
    pack_with,
    sampling_step,
    shift_frames,
    shuffle_frames,
)
from smolvideo.frames import FrameBatch
from smolvideo.models import Checkpoint
from smolvideo.pipeline import PreparedPrompt, answer_by_choice
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.prompt import Prompt
from smolvideo.sanitize import display_name

AnswerPrompt = Callable[[Prompt], Answer]
"""Answers a prompt as the question was answered: by generation, or by choices."""

SHUFFLE_SEED = "3/frames"
"""Leaves no number of frames up to 50 in its own order."""
_MIN_SIMILARITY = 0.8
_FEW_WORDS = 6
_MAX_QUOTED = 80
_CLOCK = re.compile(r"\b\d{1,3}(?::\d{2}){1,2}\b")


def answers_alike(
    prepared: PreparedPrompt,
    engine: Engine,
    session: Session | None,
    choices: Sequence[str] | None = None,
    calibration: Calibration | None = None,
) -> AnswerPrompt:
    """Return what answers another prompt as ``prepared`` is answered: by ``choices``, or by
    generation.

    ``session`` holds the features of frames, which are not encoded again; None of an engine without
    sessions.
    """

    def answer_prompt(prompt: Prompt) -> Answer:
        source = engine if session is None else session.open_with(prompt.images)
        if choices is None:
            return source.stream(prompt, prepared.generation).result()
        again = replace(prepared, prompt=prompt)
        checkpoint = engine.checkpoint
        return answer_by_choice(source, checkpoint, again, choices, calibration=calibration)

    return answer_prompt


def check_answer(
    answer_prompt: AnswerPrompt,
    checkpoint: Checkpoint,
    prepared: PreparedPrompt,
    answer: Answer,
    *,
    clock: Callable[[], float] = time.perf_counter,
    on_progress: OnProgress = no_progress,
) -> AnswerCheck:
    """Ask the question of ``answer`` again with grey, shuffled and shifted frames.

    Shuffling needs two frames of a source, shifting a clock. Raises ModelError where the device
    fails, and the errors of readers for frames that cannot be decoded.
    """
    started = clock()
    batches = frame_batches(prepared)
    step = max((sampling_step(batch) or 0.0 for batch in batches), default=0.0)

    def ask(number: int, changed: Sequence[FrameBatch] | None) -> str | None:
        on_progress(Progress("check", number, 3))
        if changed is None:
            return None
        return answer_prompt(pack_with(prepared, changed, checkpoint)).text

    blind = ask(0, [blank_frames(batch) for batch in batches])
    assert blind is not None
    several = any(len(batch) > 1 for batch in batches)
    shuffled = [shuffle_frames(batch, SHUFFLE_SEED) for batch in batches] if several else None
    in_disorder = ask(1, shuffled)
    later = ask(2, shift_frames(prepared, checkpoint))
    on_progress(Progress("check", 3, 3))
    is_blind = is_same_answer(answer.text, blind, step_seconds=step)
    is_stable = later is None or is_same_answer(answer.text, later, step_seconds=step)
    depends = None
    if in_disorder is not None:
        depends = not is_same_answer(answer.text, in_disorder, step_seconds=step)
    verdict: CheckVerdict = "blind" if is_blind else "stands" if is_stable else "unstable"
    return AnswerCheck(
        verdict=verdict,
        text=_describe(verdict, blind, later, depends_on_order=bool(depends)),
        blind=blind,
        shuffled=in_disorder,
        shifted=later,
        depends_on_order=depends,
        seconds=round(clock() - started, 3),
    )


def is_same_answer(one: str, other: str, *, step_seconds: float = 0.0) -> bool:
    """Return whether two answers say the same.

    Case, outer punctuation and blanks make no difference, and times may be one sampling step apart.
    Of more than a few words, four fifths must be the same, in the same order.
    """
    words, others = _words(one), _words(other)
    if words == others:
        return _are_near(_times(one), _times(other), step_seconds)
    if min(len(words), len(others)) <= _FEW_WORDS:
        return False
    first, second = sorted((words, others))  # the ratio depends on the order
    return SequenceMatcher(None, first, second, autojunk=False).ratio() >= _MIN_SIMILARITY


def _words(text: str) -> list[str]:
    """Words in lower case; a time is the same word as any other."""
    bare = _CLOCK.sub("0:00", text.casefold())
    return [word.strip(".,;!?\"'") for word in bare.split()]


def _times(text: str) -> list[int]:
    return [
        sum(60**place * int(part) for place, part in enumerate(reversed(found.split(":"))))
        for found in _CLOCK.findall(text)
    ]


def _are_near(times: Sequence[int], others: Sequence[int], step_seconds: float) -> bool:
    """Whether each time is at most a sampling step from the other; both are rounded down."""
    return all(abs(a - b) <= step_seconds + 1 for a, b in zip(times, others, strict=True))


def _describe(
    verdict: CheckVerdict, blind: str, later: str | None, *, depends_on_order: bool
) -> str:
    """Say in words what the controls show."""
    order = "; with shuffled frames it changes: it depends on their order"
    match verdict:
        case "blind":
            return "the answer does not need the frames: with grey frames the model says the same"
        case "unstable":
            text = f"the answer does not stand: half a sampling step later it is {_quoted(later)}"
        case "stands":
            same = "" if later is None else ", and half a sampling step later it is the same"
            text = f"the answer stands: with grey frames the model says {_quoted(blind)}{same}"
    return text + order if depends_on_order else text


def _quoted(answer: str | None) -> str:
    text = display_name(" ".join((answer or "").split()), max_length=_MAX_QUOTED)
    return f"“{text}”" if text else "nothing"
