"""Weights of a LoRA adapter, added to a checkpoint's weights while they are loaded.

``W + s·B·A`` is computed in float32 from the weight as it is stored, and rounded once to the stored
dtype: the same bits as in a merged checkpoint, whatever dtype or weight format is made of them
afterwards.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from smolvideo.errors import ModelError
from smolvideo.models.adapter import Adapter
from smolvideo.models.weights import WeightFiles


def merge_update(name: str, weight: Tensor, adapter: Adapter) -> Tensor:
    """Return the stored ``weight`` with the update of ``adapter``; the same tensor without one.

    Raises ModelError where the adapter cannot be read or holds numbers that are not finite.
    """
    low_rank, replaced = adapter.updates.get(name), adapter.rows.get(name)
    if low_rank is None and replaced is None:
        return weight
    exact = weight.float() if weight.dtype != torch.float32 else weight.clone()
    try:
        with safe_open(adapter.weights_file, framework="pt") as file:
            if replaced is not None:
                exact[list(replaced.token_ids)] = file.get_tensor(replaced.rows).float()
            if low_rank is not None:
                a, b = file.get_tensor(low_rank.a).float(), file.get_tensor(low_rank.b).float()
                exact += low_rank.scale * (b @ a)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"broken adapter: cannot read `{adapter.weights_file}`: {error}"
        ) from error
    merged = exact.to(weight.dtype)
    if not bool(merged.isfinite().all()):
        raise ModelError(
            f"broken adapter `{adapter.folder}`: with it `{name}` holds numbers that are not finite"
        )
    return merged


def read_merged(weights: WeightFiles, adapter: Adapter) -> dict[str, Tensor]:
    """Return every weight that ``adapter`` changes, merged, in the dtype as stored."""
    changed = {*adapter.updates, *adapter.rows}
    merged = {}
    for path in weights.files:
        with safe_open(path, framework="pt") as file:
            for name in changed & set(file.keys()):
                merged[name] = merge_update(name, file.get_tensor(name), adapter)
    return merged


@torch.no_grad()
def merge_into(network: nn.Module, weights: WeightFiles, adapter: Adapter) -> None:
    """Put the weights that ``adapter`` changes into a loaded ``network``, from those as stored."""
    check_base(weights, adapter)
    for name, weight in read_merged(weights, adapter).items():
        network.get_parameter(name).copy_(weight)


def check_base(weights: WeightFiles, adapter: Adapter) -> None:
    """Raise ModelError where ``adapter`` says that it was trained on other weights."""
    if adapter.norms_sha256 in (None, norms_fingerprint(weights.files)):
        return
    named = f", `{adapter.base}`" if adapter.base else ""
    raise ModelError(
        f"the adapter `{adapter.folder}` was trained on another checkpoint{named}",
        hint="name the checkpoint that it was trained on with `--model`",
    )


def norms_fingerprint(files: tuple[Path, ...]) -> str:
    """SHA-256 of the decoder's RMSNorm weights in bfloat16: a few kilobytes that differ between any
    two trainings of one size, and are the same in copies of one checkpoint in another dtype."""
    norms: dict[str, Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 -- not a mapping
                if name.startswith("model.text_model.") and "norm" in name:
                    norms[name] = file.get_tensor(name).bfloat16().view(torch.int16)
    total = hashlib.sha256()
    for name in sorted(norms):
        total.update(name.encode() + b"\0" + norms[name].numpy().tobytes())
    return total.hexdigest()
