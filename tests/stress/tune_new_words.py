"""New words for nano: a shape and a colour it has no name for, from rendered clips.

    python tests/stress/tune_new_words.py --clips 200 --steps 300
    python tests/stress/tune_new_words.py --clips 200 --steps 300 --grey

Prints exact match on held-out clips before and after, the old exam (scenes of its own world that
nano never saw) by kind, and how many of --answers greedy answers of the engine native, with the
adapter and merged, in float32, bfloat16 and with int8 weights, equal those of peft.
With --grey the same training sees grey frames alone: held-out clips must stay at chance.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from support.newwords import write_clips

import smolvideo
from smolvideo.engines import FeatureCache, GenerationOptions
from smolvideo.engines.transformers import TransformersEngine, load_network, quiet_transformers
from smolvideo.models import Checkpoint, open_checkpoint, read_checkpoint
from smolvideo.network import NetworkConfig, SmolVLM
from smolvideo.prompt import pack_prompt
from smolvideo.train.question_batches import evaluate
from smolvideo.tune.items import TuneItem, read_items, split_items
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.rehearsal import open_rehearsal
from smolvideo.tune.run import Machine, TuneRequest, merge, tune
from smolvideo.tune.samples import SampleSet, media_of, messages_of


def old_exam(checkpoint: Checkpoint, videos: int) -> dict[str, float]:
    """Exact match by kind on fresh scenes of nano's world, with the network as it was trained."""
    assert checkpoint.weights is not None
    network = SmolVLM(
        NetworkConfig.from_json(json.loads((checkpoint.folder / "config.json").read_text()))
    )
    from safetensors.torch import load_file

    from smolvideo.network.adapter_weights import read_merged

    weights = load_file(checkpoint.weights.files[0])
    if checkpoint.adapter is not None:
        weights |= read_merged(checkpoint.weights, checkpoint.adapter)
    network.load_state_dict({name: one.float() for name, one in weights.items()}, strict=False)
    network.tie_weights()
    return evaluate(network.eval(), checkpoint.tokenizer, seed=2, videos=videos)


def agreement(nano: Checkpoint, run: Path, items: list[TuneItem], frames: int) -> dict[str, int]:
    """How many greedy answers equal those of transformers with peft's adapter."""
    import peft

    generation = GenerationOptions(max_new_tokens=32)
    prompts = [
        pack_prompt(messages_of(item, media_of(item, nano, frames)[0]), nano) for item in items
    ]

    def answers(engine: Any) -> list[str]:
        with engine:
            return [engine.stream(prompt, generation).result().text for prompt in prompts]

    network = load_network(nano, torch.device("cpu"), torch.float32)
    with quiet_transformers():
        model = peft.PeftModel.from_pretrained(network, str(run / "best"))
    expected = answers(TransformersEngine(nano, model.base_model.model.eval()))
    adapted, merged = nano.with_adapter(run), read_checkpoint(run / "merged", name="merged")
    ways = {
        "adapter, float32": smolvideo.load_engine(adapted, dtype="float32"),
        "merged, float32": smolvideo.load_engine(merged, dtype="float32"),
        "adapter, bfloat16": smolvideo.load_engine(adapted, dtype="bfloat16"),
        "merged, bfloat16": smolvideo.load_engine(merged, dtype="bfloat16"),
        "adapter, int8": smolvideo.load_engine(adapted, quantize="int8"),
        "merged, int8": smolvideo.load_engine(merged, quantize="int8"),
    }
    found = {name: answers(engine) for name, engine in ways.items()}
    equal = {
        name: sum(one == other for one, other in zip(texts, expected, strict=True))
        for name, texts in found.items()
    }
    int8 = zip(found["adapter, int8"], found["merged, int8"], strict=True)
    return {**equal, "int8: adapter as merged": sum(one == other for one, other in int8)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--base-weight", type=float, default=2.0)
    parser.add_argument("--exam-videos", type=int, default=64)
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--grey", action="store_true")
    parser.add_argument("--run", type=Path, help="a run to go on with, or that is finished")
    given = parser.parse_args()
    nano = open_checkpoint("nano")
    options = TuneOptions(
        steps=given.steps,
        batch_size=given.batch_size,
        micro_batch=8,
        learning_rate=given.rate,
        rank=given.rank,
        base_weight=given.base_weight,
        dropout=0.0,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.run or Path(temporary)
        data = folder / "clips" / "data.jsonl"
        if not data.exists():
            write_clips(data.parent, clips=given.clips)
        items = read_items(data)
        request = TuneRequest(
            items,
            nano,
            options,
            folder / ("grey" if given.grey else "out"),
            rehearsal=open_rehearsal("world", nano, media=None, allow_outside=False),
            machine=Machine(cache=FeatureCache(folder / "features")),
        )
        if given.grey:
            SampleSet.of = _grey(SampleSet.of)  # type: ignore[method-assign]
        result = tune(request)
        scores = {point["step"]: point["scores"] for point in result.course.evaluations}
        best = scores[result.course.best_step]
        report: dict[str, Any] = {
            "held-out before": scores[0]["held-out"],
            "held-out after": best["held-out"],
            "grey frames after": best["grey frames"],
            "best step": result.course.best_step,
            "frames encoded": result.frames_encoded,
            "seconds": round(result.course.seconds),
        }
        if not given.grey:
            merge(request)
            adapted = nano.with_adapter(request.out)
            before, after = (old_exam(one, given.exam_videos) for one in (nano, adapted))
            report["old exam"] = {name: [before[name], after[name]] for name in before}
            _, held = split_items(items.items, options.held_out, options.seed)
            chosen = [*held, *items.items][: given.answers]
            report["equal answers"] = agreement(nano, request.out, chosen, options.max_frames)
    print(json.dumps(report, indent=1, default=asdict))  # noqa: T201 -- a program


def _grey(of: Any) -> Any:
    """Samples whose every frame is the grey one, in training and in scoring."""
    from dataclasses import replace

    def grey(samples: SampleSet, role: Any) -> Any:
        row = samples.grey_row
        return [replace(one, frames=(row,) * len(one.frames)) for one in of(samples, role)]

    return grey


if __name__ == "__main__":
    main()
