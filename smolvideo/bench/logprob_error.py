"""Log-probability error of quantized weights against unquantized ones."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def save_logprobs(scores: "torch.Tensor", file: Path) -> None:
    """Write the log-probabilities of the logits ``scores`` [vocabulary] to ``file`` (.npy)."""
    import numpy as np

    np.save(file, scores.double().log_softmax(-1).cpu().numpy())


def logprob_error(got: Path, expected: Path) -> dict[str, float]:
    """Compare ``got`` with ``expected``, two files of ``save_logprobs``, in nats.

    ``largest`` and ``mean`` are absolute differences over the whole vocabulary; ``kl_divergence``
    is the Kullback–Leibler divergence D(expected ‖ got): it weighs each token by its probability,
    as sampling would.
    """
    import numpy as np

    theirs, ours = np.load(expected), np.load(got)
    off = np.abs(ours - theirs)
    return {
        "largest": float(off.max()),
        "mean": float(off.mean()),
        "kl_divergence": float((np.exp(theirs) * (theirs - ours)).sum()),
    }
