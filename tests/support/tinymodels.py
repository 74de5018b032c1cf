"""Tiny checkpoints with random weights, built from configurations.

The spread of the weights makes greedy answers vary over the vocabulary; with the libraries' own
initialisation every answer would repeat one token.
"""

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from smolvideo.frames import Images
from smolvideo.models import Checkpoint, find_model
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes
from smolvideo.prompt import Prompt

Family = Literal["idefics3", "smolvlm"]

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<global-img>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
CONTEXT_TOKENS = 2048
IMAGE_SIZE = 32
TOKENS_PER_IMAGE = 4


def byte_tokenizer() -> Tokenizer:
    """Return a tokenizer of the 256 bytes and the family's special tokens, without training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: place for place, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIAL_TOKENS])
    return tokenizer


def tiny_config(family: Family, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return config.json of a network that runs in milliseconds."""
    return {
        "model_type": family,
        "image_token_id": tokenizer.token_to_id("<image>"),
        "scale_factor": 2,
        "tie_word_embeddings": False,
        "vision_config": {
            "model_type": "smolvlm_vision" if family == "smolvlm" else "idefics3_vision",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 8,
            "image_size": IMAGE_SIZE,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": CONTEXT_TOKENS,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "vocab_size": tokenizer.get_vocab_size(),
            "pad_token_id": tokenizer.token_to_id("<|im_end|>"),
        },
    }


def make_tiny(
    folder: Path, family: Family = "smolvlm", *, seed: int = 0, tied: bool = False
) -> Path:
    """Write a complete checkpoint folder of some hundred kilobytes."""
    tokenizer = byte_tokenizer()
    config = tiny_config(family, tokenizer)
    if tied:
        config["tie_word_embeddings"] = config["text_config"]["tie_word_embeddings"] = True
    _write_processor(folder, tokenizer, IMAGE_SIZE)
    return save_random_weights(folder, config, seed=seed)


def make_one_layer(folder: Path, name: str) -> Path:
    """Write a checkpoint with the registered shapes of a published one, cut to one layer each, and
    random bfloat16 weights. Of its vocabulary the tokenizer has the bytes; the other rows are 0."""
    network, tokenizer = find_model(name).network, byte_tokenizer()
    assert network is not None
    config = tiny_config("smolvlm", tokenizer) | {"scale_factor": network.scale_factor}
    config["tie_word_embeddings"] = network.tie_word_embeddings
    for part, shapes in (("vision_config", network.vision), ("text_config", network.text)):
        config[part] |= asdict(shapes) | {"num_hidden_layers": 1}
    _write_processor(folder, tokenizer, network.vision.image_size)
    write_json(folder / "config.json", config)
    random, weights = torch.Generator().manual_seed(0), {}
    for weight_name, shape in expected_shapes(NetworkConfig.from_json(config)).items():
        weight = torch.ones(shape, dtype=torch.bfloat16)
        if len(shape) > 1:
            weight.normal_(0.0, 1.0 / weight[0].numel() ** 0.5, generator=random)
        if shape[0] == network.text.vocab_size:
            weight[tokenizer.get_vocab_size() :] = 0.0
        weights[weight_name] = weight
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _write_processor(folder: Path, tokenizer: Tokenizer, image_size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<end_of_utterance>")
    write_json(folder / "generation_config.json", {"eos_token_id": end})
    write_json(
        folder / "preprocessor_config.json",
        {"do_image_splitting": False, "size": {"longest_edge": 4 * image_size}},
    )


def make_cut(
    processor_files: Path,
    folder: Path,
    *,
    vision_layers: int = 1,
    text_layers: int = 2,
    seed: int = 0,
) -> Path:
    """Write a published checkpoint's files and shapes with random weights and few layers."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in processor_files.glob("*.json"):
        shutil.copyfile(file, folder / file.name)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = vision_layers
    config["text_config"]["num_hidden_layers"] = text_layers
    return save_random_weights(folder, config, seed=seed)


def save_random_weights(folder: Path, config: dict[str, Any], *, seed: int = 0) -> Path:
    """Create a network of ``config`` and save both, as bfloat16 safetensors."""
    write_json(folder / "config.json", config)
    v1 = config["model_type"] == "idefics3"
    kind = Idefics3ForConditionalGeneration if v1 else SmolVLMForConditionalGeneration
    fresh = copy.deepcopy(config)  # the config classes modify their arguments
    # Skip the initialisation by the class; weights are drawn below.
    with torch.device("meta"):
        network = kind((Idefics3Config if v1 else SmolVLMConfig).from_dict(fresh))
    network.to_empty(device="cpu").tie_weights()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0.0, 1.6 / weight[0].numel() ** 0.5, generator=random)
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
    from smolvideo.engines.transformers import quiet_transformers

    with quiet_transformers():
        network.to(torch.bfloat16).save_pretrained(folder)
    write_json(folder / "config.json", config)
    return folder


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def random_images(count: int, size: int = IMAGE_SIZE, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def frames_prompt(
    checkpoint: Checkpoint, images: Images, text: str = "What happens?", *, head: str = "User:"
) -> Prompt:
    """Return a prompt without a layout: images in order, then a text."""
    token_ids = [*_ids(checkpoint, head)]
    token_ids += [checkpoint.image_token_id] * (len(images) * checkpoint.tokens_per_image)
    token_ids += _ids(checkpoint, text)
    return Prompt(
        token_ids=tuple(token_ids),
        images=images,
        text=text,
        context_tokens=checkpoint.context_tokens,
        layout=checkpoint.layout,
        geometry="official",
    )


def _ids(checkpoint: Checkpoint, text: str) -> Sequence[int]:
    ids: list[int] = checkpoint.text_tokenizer.encode(text, add_special_tokens=False).ids
    return ids
