"""One picture: SmolVLM beside Qwen2-VL."""

from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from support import record_schemas as schemas

from smolvideo.bench import BenchOptions
from smolvideo.bench.picture import (
    PICTURE_SIZE,
    QWEN2_VL,
    QWEN2_VL_SHAPES,
    PictureTask,
    measure_picture,
    picture_ratios,
    qwen2_vl_grid,
)
from smolvideo.bench.report import run_picture_bench
from smolvideo.cli.main import cli

SMALL_SHAPES: dict[str, dict[str, Any]] = {
    "text_config": {
        "num_hidden_layers": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 151_936,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [2, 3, 3],
        },
        "tie_word_embeddings": True,
    },
    "vision_config": {
        "depth": 1,
        "embed_dim": 32,
        "hidden_size": 32,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
    },
}
SMALL = PictureTask(QWEN2_VL, 3, "cpu", "float32", width=112, height=84, shapes=SMALL_SHAPES)


def test_published_shapes_are_those_of_2b() -> None:
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    config = Qwen2VLConfig(**{name: dict(part) for name, part in QWEN2_VL_SHAPES.items()})
    with torch.device("meta"):
        network = Qwen2VLForConditionalGeneration._from_config(config)
    assert sum(weight.numel() for weight in network.parameters()) == 2_208_985_600


@pytest.mark.parametrize(
    ("size", "grid"), [(PICTURE_SIZE, (110, 82)), ((56, 28), (2, 4)), ((10, 10), (2, 2))]
)
def test_picture_is_rounded_to_whole_tokens(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert qwen2_vl_grid(*size, patch=14, merged=2) == grid


def test_qwen2_vl_generates_all_tokens_and_times_its_stages() -> None:
    found = measure_picture(SMALL)
    assert (found.name, found.picture_tokens, found.prompt_tokens) == (QWEN2_VL, 12, 12 + 24 + 2)
    assert min(found.encode, found.prefill, found.generation) > 0


def test_picture_is_packed_as_ask_packs_it() -> None:
    found = measure_picture(replace(SMALL, model="nano", width=200, height=300))
    assert found.picture_tokens == 4  # nano does not split pictures into tiles
    assert found.prompt_tokens > found.picture_tokens
    assert min(found.encode, found.prefill, found.generation) > 0


def test_ratios_are_advantages_of_the_checkpoint() -> None:
    theirs = measure_picture(SMALL)
    ours = replace(
        theirs,
        picture_tokens=6,
        encode=theirs.encode / 2,
        prefill=theirs.prefill / 4,
        generation=theirs.generation * 8,
        peak_memory_bytes=10,
    )
    found = picture_ratios(ours, replace(theirs, peak_memory_bytes=50))
    assert (found["picture_tokens"], found["encode"], found["memory"]) == (2, 2, 5)
    assert (found["prefill"], found["generation"]) == pytest.approx((4, 8))
    assert 2 < found["first_token"] < 4


def test_report_holds_both_models() -> None:
    report = run_picture_bench(BenchOptions(model="nano", repeats=1), SMALL)
    content = schemas.validate_line("bench-picture", report.to_json())
    assert list(content["engines"]) == ["nano", QWEN2_VL]
    assert content["engines"][QWEN2_VL]["dtype"] == "float32"
    assert set(content["ratios"]) >= {"picture_tokens", "prefill", "generation"}
    assert content["machine"]["versions"]["transformers"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--against", "openvino"], "a comparison of its own"),
        (["--frames", "3"], "`--frames` has no effect"),
        (["--engine", "native"], "`--engine` has no effect"),
        (["--isa", "avx2"], "`--isa` has no effect"),
    ],
)
def test_options_of_a_video_are_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "--against", QWEN2_VL, *words])
    assert result.exit_code == 2
    assert said in result.stderr
