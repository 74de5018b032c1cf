"""The blind check of a summary: its prompts once more with grey frames, for a sample of videos."""

import hashlib
import time
from collections.abc import Callable, Sequence

from smolvideo.answer import Answer, AnswerCheck
from smolvideo.evidence import blank_prompt, is_same_answer
from smolvideo.models import Checkpoint
from smolvideo.prompt import PromptOptions
from smolvideo.summaries.summariser import PromptBatch, PromptSteps, Summary

BLIND_NOTICE = "the summary does not need the frames: with grey frames the model says the same"


def is_sampled(key: str, share: float) -> bool:
    """Return whether a video is in the sample of ``share`` of all; the same in every run.

    ``key`` is the hash of its content, or its path.
    """
    digest = hashlib.sha256(f"check {key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def check_blind(
    steps: PromptSteps[Summary],
    checkpoint: Checkpoint,
    options: PromptOptions,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> PromptSteps[tuple[Summary, AnswerCheck]]:
    """Run ``steps``, and ask each of its prompts with frames again with grey ones.

    A summary of windows does not need the frames if half of its notes do not.
    """
    answers: Sequence[Answer] | None = None
    blind_texts: list[str] = []
    same = 0
    seconds = 0.0
    while True:
        try:
            batch = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            composed: Summary = end.value
            break
        answers = yield batch
        if not any(len(prompt.images) for prompt in batch.prompts):
            continue
        started = clock()
        blank = tuple(blank_prompt(prompt, checkpoint, options) for prompt in batch.prompts)
        blind = yield PromptBatch(blank, batch.generation)
        seconds += clock() - started
        pairs = zip(answers, blind, strict=True)
        same += all(is_same_answer(one.text, other.text) for one, other in pairs)
        blind_texts.append(blind[0].text)
    is_blind = bool(blind_texts) and 2 * same >= len(blind_texts)
    if is_blind:
        composed.note((BLIND_NOTICE,))
    several = f"{same} of {len(blind_texts)} parts are the same with grey frames"
    check = AnswerCheck(
        verdict="blind" if is_blind else "stands",
        text=several if len(blind_texts) > 1 else _describe(is_blind),
        blind=blind_texts[0] if blind_texts else "",
        shuffled=None,
        shifted=None,
        depends_on_order=None,
        seconds=round(seconds, 3),
    )
    return composed, check


def _describe(is_blind: bool) -> str:
    return BLIND_NOTICE if is_blind else "with grey frames the summary is another"
