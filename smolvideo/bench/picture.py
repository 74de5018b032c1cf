"""One picture and a short prompt: SmolVLM beside Qwen2-VL 2B, as SmolVLM was announced.

https://huggingface.co/blog/smolvlm: against Qwen2-VL 2B, SmolVLM 2.2B reads a prompt 3.3 to 4.5
times as fast and generates 7.5 to 16 times as fast, because a picture is fewer tokens. Qwen2-VL is
transformers' class with random weights of the published shapes: nothing is downloaded, and speed
does not depend on the values.

``python -m smolvideo.bench.picture`` measures one model in a process of its own: it reads a
``PictureTask`` as JSON, and ends with one line of JSON.
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.engines.devices import (
    choose_device,
    choose_dtype,
    peak_memory_bytes,
    set_num_threads,
    synchronize,
)
from smolvideo.models import open_checkpoint
from smolvideo.pipeline import prepare

if TYPE_CHECKING:
    import torch

QWEN2_VL = "qwen2-vl"

QWEN2_VL_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "text_config": {
        "num_hidden_layers": 28,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1_000_000.0,
            "mrope_section": [16, 24, 24],
        },
        "tie_word_embeddings": True,
    },
    "vision_config": {
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 1536,
        "num_heads": 16,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
}
"""Hyperparameters of Qwen/Qwen2-VL-2B-Instruct (its config.json)."""

PICTURE_SIZE = 1152, 1536
"""Width and height in pixels: of a photograph of a page, in portrait."""

_QUESTION = "Can you describe this picture?"
_QUESTION_TOKENS = 24
"""Tokens of Qwen2-VL's prompt beside the picture: its template and a question of that length."""


@dataclass(frozen=True)
class PictureTask:
    """One measurement: ``model`` is ``qwen2-vl``, with ``shapes``, or a checkpoint's name or
    folder; ``width`` and ``height`` of the picture in pixels."""

    model: str
    new_tokens: int
    device: str = "auto"
    dtype: str = "auto"
    arithmetic: str = "auto"
    width: int = PICTURE_SIZE[0]
    height: int = PICTURE_SIZE[1]
    shapes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: QWEN2_VL_SHAPES)


@dataclass(frozen=True)
class PictureMeasurement:
    """Seconds of ``encode`` and ``prefill``, tokens per second of ``generation``, and the peak
    memory of the process. ``picture_tokens`` are part of ``prompt_tokens``."""

    name: str
    device: str
    dtype: str
    arithmetic: str
    threads: int
    parameters: int
    picture_tokens: int
    prompt_tokens: int
    encode: float
    prefill: float
    generation: float
    peak_memory_bytes: int | None

    @property
    def first_token(self) -> float:
        """Seconds to the first token, the model loaded."""
        return self.encode + self.prefill


def picture_ratios(ours: PictureMeasurement, theirs: PictureMeasurement) -> dict[str, float]:
    """Advantage of ``ours`` over ``theirs``: fewer tokens, less time, more tokens per second."""
    compared = {
        "picture_tokens": theirs.picture_tokens / ours.picture_tokens,
        "encode": theirs.encode / ours.encode,
        "prefill": theirs.prefill / ours.prefill,
        "first_token": theirs.first_token / ours.first_token,
        "generation": ours.generation / theirs.generation,
    }
    if ours.peak_memory_bytes and theirs.peak_memory_bytes:
        compared["memory"] = theirs.peak_memory_bytes / ours.peak_memory_bytes
    return compared


def measure_picture(task: PictureTask) -> PictureMeasurement:
    """Answer one question about one picture, after a warm-up with a small one."""
    measured = _measure_qwen2_vl if task.model == QWEN2_VL else _measure_smolvlm
    return measured(task)


def _measure_smolvlm(task: PictureTask) -> PictureMeasurement:
    """Measure the engine native. A picture is split into tiles, as ``ask`` does with one."""
    checkpoint = open_checkpoint(task.model, offline=True)
    engine = load_engine(
        checkpoint,
        engine="native",
        device=task.device,
        dtype=task.dtype,
        arithmetic=task.arithmetic,
    )
    assert isinstance(engine, NativeEngine)
    import torch

    # Random weights may generate an end token at any step: only the length ends an answer here.
    engine.checkpoint = replace(checkpoint, eos_token_ids=())
    with tempfile.TemporaryDirectory(prefix="smolvideo-bench-") as folder:
        small, prompt = (
            prepare(checkpoint, _write_noise(Path(folder), *size), _QUESTION).prompt
            for size in ((64, 64), (task.width, task.height))
        )
    engine.stream(small, GenerationOptions(max_new_tokens=2)).result()
    answer = engine.stream(prompt, GenerationOptions(max_new_tokens=task.new_tokens)).result()
    seconds = answer.usage.seconds
    assert checkpoint.weights is not None
    return PictureMeasurement(
        name=checkpoint.name,
        device=engine.device,
        dtype=engine.dtype,
        arithmetic=engine.arithmetic,
        threads=torch.get_num_threads(),
        parameters=checkpoint.weights.parameters,
        picture_tokens=sum(token == checkpoint.image_token_id for token in prompt.token_ids),
        prompt_tokens=len(prompt.token_ids),
        encode=seconds["encode"],
        prefill=seconds["prefill"],
        generation=answer.usage.tokens_per_second or 0.0,
        peak_memory_bytes=peak_memory_bytes(torch.device(engine.device)),
    )


def _write_noise(folder: Path, width: int, height: int) -> str:
    """Write a picture of noise to ``folder``."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = folder / f"{width}x{height}.png"
    Image.fromarray(pixels).save(file, compress_level=0)
    return str(file)


def qwen2_vl_grid(width: int, height: int, patch: int, merged: int) -> tuple[int, int]:
    """Rows and columns of patches: both sides are rounded to multiples of ``patch`` · ``merged``
    pixels (arXiv 2409.12191, §2.1; ``smart_resize`` of its image processor)."""
    unit = patch * merged
    rows, columns = (max(1, round(side / unit)) * merged for side in (height, width))
    return rows, columns


def _measure_qwen2_vl(task: PictureTask) -> PictureMeasurement:
    set_num_threads()
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    device = choose_device(task.device)
    dtype = choose_dtype(device, 1 << 31, task.dtype)
    config = Qwen2VLConfig(**{name: dict(part) for name, part in task.shapes.items()})
    torch.manual_seed(0)
    with torch.device(device):
        network = Qwen2VLForConditionalGeneration._from_config(config, dtype=dtype).eval()
    clock = _StageClock(network.model.visual, device)
    with torch.inference_mode():
        for width, height, new_tokens in ((56, 56, 2), (task.width, task.height, task.new_tokens)):
            inputs = _qwen2_vl_inputs(network.config, width, height, device, dtype)
            clock.start()
            clock.generate(network, inputs, new_tokens)
    prompt = inputs["input_ids"][0]
    return PictureMeasurement(
        name=QWEN2_VL,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        arithmetic="float",
        threads=torch.get_num_threads(),
        parameters=sum(weight.numel() for weight in network.parameters()),
        picture_tokens=int((prompt == config.image_token_id).sum()),
        prompt_tokens=len(prompt),
        encode=clock.encode,
        prefill=clock.prefill,
        generation=clock.generation,
        peak_memory_bytes=peak_memory_bytes(device),
    )


def _qwen2_vl_inputs(
    config: Any, width: int, height: int, device: "torch.device", dtype: "torch.dtype"
) -> dict[str, "torch.Tensor"]:
    """Inputs of Qwen2-VL for a random picture and a question of random tokens."""
    import torch

    vision = config.vision_config
    merged = vision.spatial_merge_size
    rows, columns = qwen2_vl_grid(width, height, vision.patch_size, merged)
    pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    text = torch.randint(0, min(1000, config.text_config.vocab_size), (_QUESTION_TOKENS,))
    picture = torch.full((rows * columns // merged**2,), config.image_token_id)
    before, after = text[: _QUESTION_TOKENS // 2], text[_QUESTION_TOKENS // 2 :]
    start, end = (
        torch.tensor([token])
        for token in (config.vision_start_token_id, config.vision_end_token_id)
    )
    ids = torch.cat((before, start, picture, end, after))[None].to(device)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": (ids == config.image_token_id).int(),
        "pixel_values": torch.randn(rows * columns, pixels).to(device, dtype),
        "image_grid_thw": torch.tensor([[1, rows, columns]], device=device),
    }


class _StageClock:
    """Seconds of the stages of ``generate`` of a transformers model with a vision ``tower``."""

    def __init__(self, tower: "torch.nn.Module", device: "torch.device") -> None:
        self.encode = self.prefill = self.generation = 0.0
        self._device = device
        self._times: list[float] = []
        tower.register_forward_hook(lambda *_: self._note())

    def start(self) -> None:
        self._times = []
        self._note()

    def _note(self) -> None:
        synchronize(self._device)
        self._times.append(time.perf_counter())

    def generate(self, network: Any, inputs: Mapping[str, "torch.Tensor"], new_tokens: int) -> None:
        """Generate exactly ``new_tokens`` tokens, greedily, and time the stages."""
        from transformers import LogitsProcessorList

        def note(_: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            self._note()
            return scores

        network.generate(
            **inputs,
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            logits_processor=LogitsProcessorList([note]),
        )
        started, encoded, first, *_ = self._times
        self.encode, self.prefill = encoded - started, first - encoded
        self.generation = (new_tokens - 1) / (self._times[-1] - first)


if __name__ == "__main__":
    task = PictureTask(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(measure_picture(task))))  # noqa: T201 -- its result
