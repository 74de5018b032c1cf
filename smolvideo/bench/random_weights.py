"""Checkpoints with random weights, for benchmarks: speed does not depend on the weights' values."""

import shutil
from pathlib import Path

from smolvideo.errors import ModelError
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.tensors import expected_shapes


def write_random_weights(config: Path, folder: Path) -> Path:
    """Copy the files of ``config`` and write random bfloat16 weights for it to ``folder``.

    Raises ModelError where ``config`` is no folder with a SmolVLM's configuration.
    """
    import torch
    from safetensors.torch import save_file

    if not config.is_dir():
        raise ModelError(f"no folder `{config}`")
    network_config = NetworkConfig.from_json(read_json(config / "config.json"))
    folder.mkdir(parents=True, exist_ok=True)
    for file in config.glob("*.json"):
        if not file.name.endswith(".index.json"):
            shutil.copyfile(file, folder / file.name)
    random = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in expected_shapes(network_config).items():
        weight = torch.empty(shape, dtype=torch.bfloat16)
        if len(shape) > 1:
            # Each output is a sum over its inputs: this keeps its variance near one.
            weight.normal_(0.0, 1.0 / weight[0].numel() ** 0.5, generator=random)
        else:
            weight.fill_(0.0 if name.endswith("bias") else 1.0)
        weights[name] = weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
