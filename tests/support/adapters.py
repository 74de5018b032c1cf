"""LoRA adapters in peft's format with random weights, written without peft."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from smolvideo.models import Checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes

DECODER = ("self_attn.q_proj", "mlp.down_proj")


def write_adapter(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    modules: Sequence[str] = DECODER,
    part: str = "model.text_model.layers.",
    rank: int = 4,
    size: float = 0.2,
    rows: Sequence[int] = (),
    seed: int = 0,
    metadata: dict[str, str] | None = None,
    **settings: Any,
) -> Path:
    """Write an adapter of the weights in ``part`` whose names end with one of ``modules``."""
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(seed)
    config = NetworkConfig.from_json(read_json(checkpoint.folder / "config.json"))
    tensors = {}
    for name, shape in expected_shapes(config).items():
        module = name.removesuffix(".weight")
        if part in name and module.endswith(tuple(modules)) and len(shape) == 2:
            a = torch.randn(rank, shape[1], generator=random) / shape[1] ** 0.5
            b = size * torch.randn(shape[0], rank, generator=random)
            tensors[f"base_model.model.{module}.lora_A.weight"] = a
            tensors[f"base_model.model.{module}.lora_B.weight"] = b
    if rows:
        name = "base_model.model.model.text_model.embed_tokens.token_adapter.trainable_tokens_delta"
        tensors[name] = torch.randn(len(rows), config.text.hidden_size, generator=random)
        settings["trainable_token_indices"] = {"embed_tokens": list(rows)}
    save_file(tensors, folder / "adapter_model.safetensors", metadata=metadata)
    described = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    described |= {"base_model_name_or_path": checkpoint.name, "target_modules": list(modules)}
    content = json.dumps({**described, **settings})
    (folder / "adapter_config.json").write_text(content, encoding="utf-8")
    return folder
