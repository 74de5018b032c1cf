"""A toy checkpoint folder for tests, with the layout of the published ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
)
CHAT_TEMPLATE = "<|im_start|>{% for message in messages %}…<end_of_utterance>\n{% endfor %}"

_WORDS = "User: Assistant: Frame from a video. You are provided the following series of frames. "


def toy_tokenizer() -> Tokenizer:
    """Return a byte-level BPE with single digits, as SmolLM2's, trained on a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_WORDS] * 4, trainer)
    return tokenizer


def write_toy_checkpoint(
    folder: Path,
    *,
    model_type: str = "smolvlm",
    layout: str | None = None,
    context_tokens: int = 2048,
    **config: Any,
) -> Path:
    """Write a complete checkpoint: 32-pixel squares, 4 tokens each, and one weight tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = toy_tokenizer()
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL_TOKENS}
    content: dict[str, Any] = {
        "model_type": model_type,
        "image_token_id": ids["<image>"],
        "pad_token_id": 128002,
        "scale_factor": 2,
        "torch_dtype": "float32",
        "vision_config": {"image_size": 32, "patch_size": 8},
        "text_config": {
            "max_position_embeddings": context_tokens,
            "pad_token_id": ids["<|im_end|>"],
            "pixel_shuffle_factor": 7,
            "vocab_size": tokenizer.get_vocab_size(),
        },
    }
    if layout:
        content["smolvideo_layout"] = layout
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", content | config)
    write_json(folder / "generation_config.json", {"eos_token_id": ids["<|endoftext|>"]})
    write_json(
        folder / "preprocessor_config.json",
        {"do_image_splitting": True, "size": {"longest_edge": 128}},
    )
    write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    save_file({"weight": np.zeros((3, 5), np.float32)}, folder / "model.safetensors")
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
