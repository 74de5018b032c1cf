"""How far the scores of rounded weights are from those of the weights as they are."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def save_logprobs(scores: "torch.Tensor", file: Path) -> None:
    """Write the log-probabilities behind ``scores`` [vocabulary] to ``file`` (.npy)."""
    import numpy as np

    np.save(file, scores.double().log_softmax(-1).cpu().numpy())


def logprob_error(got: Path, expected: Path) -> dict[str, float]:
    """``got`` against ``expected``, two files of ``save_logprobs``, in nats.

    ``largest`` and ``mean`` are the absolute differences over the whole vocabulary;
    ``kl_divergence`` is the one of Kullback and Leibler, D(expected ‖ got): it weighs each token
    by its probability, as drawing one would.
    """
    import numpy as np

    theirs, ours = np.load(expected), np.load(got)
    off = np.abs(ours - theirs)
    return {
        "largest": float(off.max()),
        "mean": float(off.mean()),
        "kl_divergence": float((np.exp(theirs) * (theirs - ours)).sum()),
    }
