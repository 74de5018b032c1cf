"""Time and peak memory of LoRA steps on SmolVLM2-256M's shapes, against the prediction.

    python tests/stress/tune_memory.py --processor-files ../shared/processor_files --dtype float32

Weights and features are random; one sample of --frames frames a step. Each variant runs in a
process of its own. Prints the prediction, the measured peak and CPU seconds a step.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAME = "SmolVLM2-256M-Video-Instruct"


def measure(folder: Path, dtype: str, method: str, frames: int, checkpointing: bool) -> None:
    """Run in a process of its own: three steps, then the peak."""
    import resource

    import torch

    from smolvideo.models import read_checkpoint
    from smolvideo.models.json_files import read_json
    from smolvideo.models.network_config import NetworkConfig
    from smolvideo.tune.memory import Workload, plan_memory
    from smolvideo.tune.network import TuningNetwork
    from smolvideo.tune.options import TuneOptions
    from smolvideo.tune.samples import IGNORED, Sample, SampleSet
    from smolvideo.tune.training import Training

    checkpoint = read_checkpoint(folder, name="smolvlm2-256m")
    config = NetworkConfig.from_json(read_json(folder / "config.json"))
    image = [checkpoint.image_token_id] * checkpoint.tokens_per_image
    ids = [one for _ in range(frames) for one in [*range(300, 312), *image]] + [*range(400, 440)]
    answer = list(range(500, 508))
    targets = [IGNORED] * (len(ids) - 1) + answer
    sample = Sample(tuple([*ids, *answer][:-1]), tuple(targets), tuple(range(frames)), "train")
    features = torch.randn(frames + 1, checkpoint.tokens_per_image, config.text.hidden_size)
    options = TuneOptions(
        method=method,  # type: ignore[arg-type]
        steps=3,
        batch_size=1,
        micro_batch=1,
        rehearse_share=0.0,
        checkpointing=checkpointing,
    )
    work = Workload(1, len(sample.token_ids), len(answer), frames)
    plan = plan_memory("256m", config, options, work, dtype=dtype)
    network = TuningNetwork(checkpoint, options, features, dtype=dtype)
    samples = SampleSet([sample], features)
    training = Training(folder, network, samples, options, facts="", write=lambda _: None)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = []
    for _ in range(3):
        started = time.process_time()
        training.step()
        seconds.append(round(time.process_time() - started, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(  # noqa: T201 -- a program
        json.dumps(
            {
                "method": method,
                "dtype": dtype,
                "checkpointing": checkpointing,
                "tokens": len(sample.token_ids),
                "predicted_gb": round(plan.peak_bytes / 1e9, 2),
                "loaded_gb": round(loaded / 1e9, 2),
                "peak_gb": round(peak / 1e9, 2),
                "off_percent": round(100 * (plan.peak_bytes / peak - 1)),
                "cpu_seconds": seconds,
                "memory": plan.memory,
                "load": plan.load_bytes,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--processor-files", type=Path, required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--only", default="")
    parser.add_argument("--in-process", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.in_process:
        folder, method, dtype, kept = given.in_process
        measure(Path(folder), dtype, method, given.frames, kept == "True")
        return
    from smolvideo.bench.report import write_random_weights

    with tempfile.TemporaryDirectory() as folder:
        weights = write_random_weights(given.processor_files / NAME, Path(folder) / "random")
        for method, kept in (("lora", True), ("lora", False), ("full", True), ("full", False)):
            if given.only and f"{method}-{kept}" != given.only:
                continue
            words = ["--in-process", str(weights), method, given.dtype, str(kept)]
            words += [
                "--processor-files",
                str(given.processor_files),
                "--frames",
                str(given.frames),
            ]
            subprocess.run([sys.executable, __file__, *words], check=False)


if __name__ == "__main__":
    main()
