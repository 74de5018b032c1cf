"""DPO of nano towards answers in one word: greedy answers to held-out prompts before and after.

python tests/stress/tune_align.py --clips 300 --steps 200
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.newwords import write_pairs

import smolvideo
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.sampling import FrameSampling
from smolvideo.tune.items import TuneItem, read_items, split_items
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.preferences import PreferenceOptions
from smolvideo.tune.run import TuneRequest, tune


def greedy(checkpoint: Checkpoint, items: list[TuneItem], frames: int) -> dict[str, float]:
    """Shares of answers in one word, and of those that name the right shape."""
    one_word = right = 0
    with smolvideo.load_engine(checkpoint) as engine:
        for item in items:
            path = item.media[0].source.path
            sampling = FrameSampling(max_frames=frames)
            text = smolvideo.ask(engine, path, item.line.question, sampling=sampling).text
            words = text.rstrip(".").split()
            one_word += len(words) == 1
            right += words[-1:] == [item.line.answer]
    return {"one word": one_word / len(items), "right shape": right / len(items)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--beta", type=float, default=PreferenceOptions.beta)
    parser.add_argument("--answer-weight", type=float, default=PreferenceOptions.answer_weight)
    given = parser.parse_args()
    nano = open_checkpoint("nano")
    options = TuneOptions(
        steps=given.steps,
        learning_rate=given.rate,
        dropout=0.0,
        held_out=0.3,
        rehearse_share=0.0,
        max_frames=4,
    )
    with tempfile.TemporaryDirectory() as folder:
        items = read_items(write_pairs(Path(folder) / "clips", clips=given.clips), pairs=True)
        _, held = split_items(items.items, options.held_out, options.seed)
        out = Path(folder) / "out"
        before = greedy(nano, held, options.max_frames)
        request = TuneRequest(
            items,
            nano,
            options,
            out,
            preferences=PreferenceOptions(given.beta, given.answer_weight),
        )
        result = tune(request)
        after = greedy(nano.with_adapter(out), held, options.max_frames)
    print(  # noqa: T201 -- a program
        json.dumps(
            {
                "pairs": result.counts["train"] // 2,
                "held-out prompts": len(held),
                "before": before,
                "after": after,
                "best step": result.course.best_step,
                "seconds": round(result.course.seconds, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
