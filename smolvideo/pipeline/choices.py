"""Choices instead of generated text: the probability of each, by one prefill of the prompt."""

import csv
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from smolvideo.answer import Answer, ChoiceProbabilities, Usage
from smolvideo.calibration import IDENTITY, Calibration
from smolvideo.engines import Engine, Session
from smolvideo.engines.choices import check_choices, choice_log_probabilities
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint
from smolvideo.pipeline.answer import with_context
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.progress import OnProgress, Progress, no_progress
from smolvideo.sanitize import display_name

MIN_MASS = 0.05
"""Below, a notice says that the model would rather say something else."""
MAX_RATING = 20


def answer_by_choice(
    scorer: Engine | Session,
    checkpoint: Checkpoint,
    prepared: PreparedPrompt,
    choices: Sequence[str],
    *,
    calibration: Calibration | None = None,
    on_progress: OnProgress = no_progress,
) -> Answer:
    """Return the most likely of ``choices`` as the answer, with the probabilities of all.

    ``checkpoint`` is that of ``scorer``; a session keeps the prompt, so that further questions on
    the same frames prefill only their own words. ``calibration`` is from ``kept_calibration``.

    Raises UsageError for choices that cannot be compared (see ``check_choices``), PromptError where
    the prompt does not fit the context, ModelError where the device fails.
    """
    choices = check_choices(choices)
    prompt, clock = prepared.prompt, _EncodeClock(on_progress)
    if isinstance(scorer, Session):  # with progress; what follows reads its cache
        scorer.prefill(prompt, on_progress=clock.on_progress)
    scores = choice_log_probabilities(scorer, checkpoint, prompt, choices)
    usage = Usage(
        prompt_tokens=len(prompt.token_ids),
        answer_tokens=0,
        context_tokens=checkpoint.context_tokens,
        frames=len(prompt.images),
        seconds=clock.seconds(),
    )
    scale = IDENTITY if calibration is None else calibration.scale
    found = scale.probabilities(scores)
    probabilities = {choice: round(p, 6) for choice, p in zip(choices, found, strict=True)}
    mass = min(1.0, sum(map(math.exp, scores)))
    answer = Answer(
        max(probabilities, key=probabilities.__getitem__),
        "choice",
        usage,
        _notices(mass),
        choices=ChoiceProbabilities(
            probabilities,
            round(mass, 6),
            _rating(probabilities),
            None if calibration is None else asdict(calibration),
        ),
    )
    return with_context(prepared, answer)


def parse_choices(text: str) -> tuple[str, ...]:
    """Return the choices of ``yes,no,unsure``, one line of CSV: quotes hold a comma.

    Raises UsageError for an open quote, and as ``check_choices``.

    >>> parse_choices('red, "blue, dark"')
    ('red', 'blue, dark')
    """
    line = text.replace("\r", " ").replace("\n", " ").strip()
    try:
        (choices,) = csv.reader([line], skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise UsageError(
            f"the choices `{display_name(line[:60])}` are not one line of CSV: {error}",
            hint='quotes hold a choice with a comma: `red,"blue, dark"`',
        ) from error
    return check_choices(choices)


def parse_rating(text: str) -> tuple[str, ...]:
    """Return the choices of ``1-5``: whole numbers in order. Raises UsageError."""
    first, dash, last = text.strip().partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise UsageError(f"a rating is a range such as `1-5`, not `{text:.40}`")
    low, high = int(first), int(last)
    if not 2 <= high - low + 1 <= MAX_RATING:
        raise UsageError(
            f"a rating has 2 to {MAX_RATING} steps, and `{text:.40}` does not", hint="such as `1-5`"
        )
    return tuple(map(str, range(low, high + 1)))


def _rating(probabilities: Mapping[str, float]) -> float | None:
    """The expected value where all choices are finite numbers, else None."""
    try:
        rating = sum(float(choice) * p for choice, p in probabilities.items())
    except ValueError:
        return None
    return round(rating, 6) if math.isfinite(rating) else None


def _notices(mass: float) -> tuple[str, ...]:
    if mass >= MIN_MASS:
        return ()
    return (
        f"the model's own answer is one of the choices with {mass:.1%} only: name them in the "
        "question",
    )


@dataclass
class _EncodeClock:
    """Divides the time since it was made between ``encode`` and ``prefill``."""

    report: OnProgress

    def __post_init__(self) -> None:
        self._started = self._encoded = time.perf_counter()

    def on_progress(self, progress: Progress) -> None:
        if progress.stage == "encode":
            self._encoded = time.perf_counter()
        self.report(progress)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of both stages so far."""
        return {
            "encode": self._encoded - self._started,
            "prefill": time.perf_counter() - self._encoded,
            "generate": 0.0,
        }
