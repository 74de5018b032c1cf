"""The torch modules against those of transformers: equal logits for the same checkpoint."""

from pathlib import Path

import pytest
import torch

from smolvideo.models import open_checkpoint
from smolvideo.network import SmolVLM, attention, model
from smolvideo.network.model import Head
from smolvideo.network.quantized import Int8Weight
from smolvideo.network.vision import pixel_shuffle
from smolvideo.train.nano_config import (
    NANO,
    init_weights,
    save_checkpoint,
    special_id,
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of nano's architecture with random weights, as training does."""
    folder = tmp_path_factory.mktemp("random") / "nano"
    torch.manual_seed(0)
    network = SmolVLM(NANO)
    init_weights(network)
    save_checkpoint(folder, network, open_checkpoint("nano").tokenizer, {})
    return folder


def causal_mask(length: int) -> torch.Tensor:
    above = torch.ones(length, length, dtype=torch.bool).triu(1)
    return torch.zeros(1, 1, length, length).masked_fill(above, torch.finfo(torch.float32).min)


def test_logits_equal_transformers(checkpoint: Path) -> None:
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import SmolVLMForConditionalGeneration

    reference = SmolVLMForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    ours = SmolVLM(NANO)
    missing, unexpected = ours.load_state_dict(
        {name: t.float() for name, t in load_file(checkpoint / "model.safetensors").items()},
        strict=False,
    )
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied to the embedding
    image = special_id(Tokenizer.from_file(str(checkpoint / "tokenizer.json")), "<image>")
    generator = torch.Generator().manual_seed(1)
    size = NANO.vision.image_size
    pixels = torch.rand(3, 3, size, size, generator=generator) * 2 - 1
    ids = torch.randint(10, NANO.text.vocab_size, (1, 40), generator=generator)
    for start in (2, 12, 25):
        ids[0, start : start + NANO.tokens_per_image] = image
    with torch.no_grad():
        expected = reference(input_ids=ids, pixel_values=pixels[None]).logits
        vectors = ours.embed_inputs(ids, ours.encode_images(pixels), image)
        hidden = ours.model.text_model(vectors, torch.arange(40)[None], causal_mask(40))
        got = ours.lm_head(hidden)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_float32_and_never_rounded(
    dtype: torch.dtype, quantized: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As large as those of published models, where bfloat16 has steps of an eighth."""
    monkeypatch.setattr(model, "_HEAD_WEIGHTS_PER_CHUNK", 48 * 100)  # a last part of another size
    random = torch.Generator().manual_seed(0)
    head = Head(48, 1030, bias=False).requires_grad_(False)
    head.weight = torch.nn.Parameter(torch.randn(1030, 48, generator=random).to(dtype), False)
    x = torch.randn(1, rows, 48, generator=random).to(dtype)
    weight = head.weight.double()
    if quantized:
        head.quantize(head.weight, dtype)
        assert isinstance(head.quantized_weight, Int8Weight)
        weight = head.quantized_weight.qweight.double()
        weight *= head.quantized_weight.scales.double()[:, None]
    logits = head(x)
    assert logits.dtype is torch.float32
    torch.testing.assert_close(logits.double(), x.double() @ weight.t(), rtol=1e-5, atol=1e-4)
    assert all(len(row.unique()) > 1000 for row in logits[0]), "hardly any tie"


def test_nano_checkpoint_takes_at_most_12_megabytes(checkpoint: Path) -> None:
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) <= 12_000_000


def test_pixel_shuffle_concatenates_the_patches_of_a_square() -> None:
    patches = torch.arange(16.0).view(1, 16, 1)  # a 4 × 4 image whose patches hold their index
    assert pixel_shuffle(patches, 2).tolist() == [
        [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    ]


def test_low_precision_scores_are_limited_to_bfloat16() -> None:
    """Rounding float32 to bfloat16 would lose two thirds of its mantissa."""
    able = hasattr(torch.backends.mkldnn, "matmul")
    for dtype in (torch.float32, torch.float16, torch.float64):
        assert attention._supports_fp32_accumulation(dtype) is False
    assert attention._supports_fp32_accumulation(torch.bfloat16) is able
