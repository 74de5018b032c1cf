"""Export a checkpoint to llama.cpp's files.

``model.gguf`` is the decoder, ``mmproj.gguf`` the vision tower. ``python -m
smolvideo.bench.llama_cpp_export CHECKPOINT FOLDER DTYPE`` writes them. Keys and names are those of
llama.cpp's own converter (conversion/llama.py and conversion/smolvlm.py).
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.engines.devices import cpu_dtype
from smolvideo.engines.transformers import load_network
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.models.json_files import read_json

if TYPE_CHECKING:
    import numpy as np

    from smolvideo.models.network_config import TextConfig, VisionConfig
    from smolvideo.network import NetworkConfig

    Arrays = Iterator[tuple[str, np.ndarray[Any, Any]]]

_HINT = "pip install 'smolvideo[llama-cpp]', which compiles llama.cpp for this machine"
_TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5
"""llama.cpp's token types."""


def import_llama_cpp() -> Any:
    """Import llama.cpp's bindings. Raises UsageError where they are not installed."""
    try:
        import llama_cpp
    except ImportError as error:
        raise UsageError("llama.cpp is not installed", hint=_HINT) from error
    return llama_cpp


def import_gguf() -> Any:
    """Import the package that writes llama.cpp's files. Raises UsageError where it is not
    installed."""
    try:
        import gguf
    except ImportError as error:
        raise UsageError("gguf, which writes llama.cpp's files, is missing", hint=_HINT) from error
    return gguf


def export_llama_cpp(checkpoint: str, folder: Path, dtype: str) -> None:
    """Write ``model.gguf`` and ``mmproj.gguf`` of ``checkpoint`` to ``folder``.

    Matrices are in the dtype of inference, vectors and the vision tower's embeddings in float32.
    Raises as ``load_network`` and ``cpu_dtype`` do.
    """
    import torch

    from smolvideo.network import NetworkConfig

    import_gguf()
    opened = open_checkpoint(checkpoint, offline=True)
    kind = _TYPES[cpu_dtype(opened, dtype)]
    config = NetworkConfig.from_json(read_json(opened.folder / "config.json"))
    network = load_network(opened, torch.device("cpu"), torch.float32)
    weights = network.state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    _write_decoder(folder / "model.gguf", opened, config.text, weights, kind)
    _write_tower(folder / "mmproj.gguf", config, weights, kind)


def _write_decoder(
    file: Path, checkpoint: Checkpoint, config: "TextConfig", weights: Mapping[str, Any], kind: str
) -> None:
    writer = import_gguf().GGUFWriter(file, "llama")
    writer.add_context_length(checkpoint.context_tokens)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, checkpoint, config.vocab_size)
    _write(writer, _decoder_tensors(config, weights), kind)


def _add_tokenizer(writer: Any, checkpoint: Checkpoint, size: int) -> None:
    """Write the vocabulary: prompts come as token ids, but llama.cpp requires it."""
    content = read_json(checkpoint.folder / "tokenizer.json")
    words = {number: word for word, number in content["model"]["vocab"].items()}
    special = {added["id"]: added["content"] for added in content["added_tokens"]}
    named = {**words, **special}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([named.get(number, f"[PAD{number}]") for number in range(size)])
    writer.add_token_types(
        [
            _CONTROL if number in special else _NORMAL if number in words else _UNUSED
            for number in range(size)
        ]
    )
    merges = content["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_eos_token_id(checkpoint.eos_token_ids[0])


def _decoder_tensors(config: "TextConfig", weights: Mapping[str, Any]) -> "Arrays":
    names = {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    text = "model.text_model"
    yield "token_embd.weight", weights[f"{text}.embed_tokens.weight"].numpy()
    yield "output_norm.weight", weights[f"{text}.norm.weight"].numpy()
    yield "output.weight", weights["lm_head.weight"].numpy()
    for layer in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            array = weights[f"{text}.layers.{layer}.{ours}.weight"].numpy()
            if theirs in heads:
                array = _interleaved(array, heads[theirs])
            yield f"blk.{layer}.{theirs}.weight", array


def _interleaved(array: "np.ndarray[Any, Any]", heads: int) -> "np.ndarray[Any, Any]":
    """Reorder rows for llama.cpp's RoPE, which rotates neighbouring pairs where transformers
    rotates halves."""
    halves = array.reshape(heads, 2, array.shape[0] // heads // 2, array.shape[1])
    return halves.swapaxes(1, 2).reshape(array.shape)


def _write_tower(
    file: Path, config: "NetworkConfig", weights: Mapping[str, Any], kind: str
) -> None:
    vision = config.vision
    writer = import_gguf().GGUFWriter(file, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("idefics3")
    writer.add_vision_image_size(vision.image_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_block_count(vision.num_hidden_layers)
    writer.add_vision_head_count(vision.num_attention_heads)
    writer.add_vision_attention_layernorm_eps(vision.layer_norm_eps)
    writer.add_vision_projection_dim(config.text.hidden_size)
    writer.add_vision_projector_scale_factor(config.scale_factor)
    writer.add_vision_image_mean([0.5, 0.5, 0.5])
    writer.add_vision_image_std([0.5, 0.5, 0.5])
    writer.add_vision_use_gelu(True)
    # Frames come in the vision tower's size, so no preprocessor size is written.
    _write(writer, _tower_tensors(vision, weights), kind)


def _tower_tensors(vision: "VisionConfig", weights: Mapping[str, Any]) -> "Arrays":
    names = {
        "layer_norm1": "ln1",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.out_proj": "attn_out",
        "layer_norm2": "ln2",
        "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down",
    }
    tower = "model.vision_model"
    fixed = {
        f"{tower}.embeddings.patch_embedding.weight": "v.patch_embd.weight",
        f"{tower}.embeddings.patch_embedding.bias": "v.patch_embd.bias",
        f"{tower}.embeddings.position_embedding.weight": "v.position_embd.weight",
        f"{tower}.post_layernorm.weight": "v.post_ln.weight",
        f"{tower}.post_layernorm.bias": "v.post_ln.bias",
        "model.connector.modality_projection.proj.weight": "mm.model.fc.weight",
    }
    for ours, theirs in fixed.items():
        yield theirs, weights[ours].numpy()
    for layer in range(vision.num_hidden_layers):
        for ours, theirs in names.items():
            for part in ("weight", "bias"):
                array = weights[f"{tower}.encoder.layers.{layer}.{ours}.{part}"].numpy()
                yield f"v.blk.{layer}.{theirs}.{part}", array


def _write(writer: Any, tensors: "Arrays", kind: str) -> None:
    gguf = import_gguf()
    formats = gguf.GGMLQuantizationType
    for name, array in tensors:
        exact = array.ndim != 2 or "position_embd" in name
        chosen = formats.F32 if exact else formats[kind]
        writer.add_tensor(name, gguf.quants.quantize(array, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    export_llama_cpp(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
