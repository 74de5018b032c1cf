"""``--choices yes,no`` of nano on questions of its evaluation: AUC, and ECE after calibration.

    python tests/stress/choices.py --questions 200

The scale is fitted to the questions about the first half of the videos, and AUC, accuracy and ECE
are of the second half. Prints one JSON line; the exit code is 1 for an AUC below 0.95 or an ECE
above 0.05.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from smolvideo.calibration import IDENTITY, LabelledScores, Scale, fit_scale, reliability
from smolvideo.engines import NativeEngine, load_engine
from smolvideo.engines.choices import choice_log_probabilities
from smolvideo.pipeline import load_frames
from smolvideo.prompt import frame_transform, pack_prompt
from smolvideo.train.exam import ExamOptions
from smolvideo.train.exam.evaluate import conversation
from smolvideo.train.exam.videos import ExamVideo, sample_exam_videos
from smolvideo.train.world.questions import FrameClock
from smolvideo.train.world.render import write_video

CHOICES = ("yes", "no")
MAX_SECONDS = 12


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--questions", type=int, default=200, help="questions of each half")
    parser.add_argument("--seed", type=int, default=25)
    given = parser.parse_args()
    examples = list(scored(given.questions * 2, given.seed))
    halves = examples[: given.questions], examples[given.questions :]
    last = halves[0][-1].group
    judged = [example for example in halves[1] if example.group != last]
    scale = fit_scale(halves[0])
    result = {
        "fitted": len(halves[0]),
        "judged": len(judged),
        "videos": len({example.group for example in judged}),
        "auc": round(auc(judged), 4),
        "accuracy": round(share_right(judged), 4),
        "ece_before": round(ece(judged, IDENTITY), 4),
        "ece_after": round(ece(judged, scale), 4),
        "slope": round(scale.slope, 3),
        "offset": round(scale.offset, 3),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return int(result["auc"] < 0.95 or result["ece_after"] > 0.05)


def scored(count: int, seed: int) -> Iterator[LabelledScores]:
    """Yield ``count`` yes-no questions about drawn videos, with nano's log-probabilities."""
    engine = load_engine("nano", device="cpu")
    assert isinstance(engine, NativeEngine)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        for video in sample_exam_videos(ExamOptions(videos=100_000, seed=seed)):
            if video.film.seconds > MAX_SECONDS:
                continue
            for example in _scored(engine, video, Path(folder)):
                yield example
                done += 1
                if done == count:
                    return


def _scored(engine: NativeEngine, video: ExamVideo, folder: Path) -> Iterator[LabelledScores]:
    path = folder / f"{video.number}.mp4"
    write_video(video.scene, video.film, path)
    geometry, fit = frame_transform(engine.checkpoint)
    batch = load_frames(path, fit=fit, geometry=geometry)
    path.unlink()
    seconds = video.film.seconds
    clock = FrameClock(tuple(time / seconds for time in batch.pts_seconds), seconds)
    opened, _ = video.questions(clock)
    session, images = engine.open_session(), None
    for question in opened:
        answer = question.answer.strip().lower().rstrip(".")
        if answer not in CHOICES:
            continue
        prompt = pack_prompt(conversation(batch, question), engine.checkpoint)
        images = prompt.images if images is None else images
        prompt = replace(prompt, images=images)
        scores = choice_log_probabilities(session, engine.checkpoint, prompt, CHOICES)
        yield LabelledScores(tuple(scores), CHOICES.index(answer), video.number)


def auc(examples: Sequence[LabelledScores]) -> float:
    """Probability that a question with the answer yes has higher log-odds than one with no."""
    odds = [[], []]  # type: list[list[float]]
    for example in examples:
        yes, no = example.log_probabilities
        odds[example.label].append(yes - no)
    pairs = [(a > b) + (a == b) / 2 for a in odds[0] for b in odds[1]]
    return sum(pairs) / len(pairs)


def share_right(examples: Sequence[LabelledScores]) -> float:
    return sum(_choice(example) == example.label for example in examples) / len(examples)


def ece(examples: Sequence[LabelledScores], scale: Scale) -> float:
    found = [max(scale.probabilities(example.log_probabilities)) for example in examples]
    right = [_choice(example, scale) == example.label for example in examples]
    return reliability(found, right).ece


def _choice(example: LabelledScores, scale: Scale = IDENTITY) -> int:
    probabilities = scale.probabilities(example.log_probabilities)
    return probabilities.index(max(probabilities))


if __name__ == "__main__":
    raise SystemExit(main())
