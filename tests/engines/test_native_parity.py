"""The native engine against transformers: equal logits and answers for the same checkpoint."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tinymodels

from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.engines.answer_text import StreamingDetokenizer
from smolvideo.engines.transformers import TransformersEngine, _Decoder
from smolvideo.frames import FrameBatch, VideoMetadata
from smolvideo.models import open_checkpoint
from smolvideo.prompt import Message, Prompt, PromptOptions, pack_prompt

CHECKPOINTS = ("SmolVLM2-256M-Video-Instruct", "SmolVLM2-500M-Video-Instruct", "SmolVLM-Instruct")
"""Each shape once, and both families: see ``test_other_checkpoints_have_one_of_these_shapes``."""

SAME_SHAPE = {
    "SmolVLM-Base": "SmolVLM-Instruct",
    "SmolVLM2-2.2B-Instruct": "SmolVLM-Instruct",
    "SmolVLM-256M-Instruct": "SmolVLM2-256M-Video-Instruct",
}
"""Other checkpoints → the one of ``CHECKPOINTS`` with the same layers."""

OF_THE_FAMILY = {"architectures", "model_type", "torch_dtype", "transformers_version"}
OF_THE_TEXT = {"image_token_id", "max_position_embeddings", "rope_theta", "vocab_size"}
"""Settings in which they may differ: those of the family, which tiny networks of both families
cover, and those that have several values among ``CHECKPOINTS``."""


def pair(folder: Path | str, dtype: str = "float32") -> tuple[NativeEngine, TransformersEngine]:
    native = load_engine(str(folder), engine="native", device="cpu", dtype=dtype)
    reference = load_engine(str(folder), engine="transformers", device="cpu", dtype=dtype)
    assert isinstance(native, NativeEngine)
    assert isinstance(reference, TransformersEngine)
    return native, reference


def logits(engine: NativeEngine | TransformersEngine, prompt: Prompt) -> torch.Tensor:
    """Return the logits of the first answer token."""
    if isinstance(engine, NativeEngine):
        return engine.start_session(prompt).prefill(prompt).float()
    rows = engine.encode(prompt.images)
    decoder = _Decoder(engine, prompt, rows)
    return decoder.prefill().float()


def distance(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest absolute error over the largest absolute logit."""
    return float((got - expected).abs().max() / expected.abs().max())


def greedy(
    engine: NativeEngine | TransformersEngine,
    prompt: Prompt,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> list[int]:
    """Return the token ids of the greedy answer."""
    seen: list[int] = []
    push = StreamingDetokenizer.push

    def watched(self: StreamingDetokenizer, token_id: int) -> str:
        seen.append(token_id)
        return push(self, token_id)

    with monkeypatch.context() as patch:
        patch.setattr(StreamingDetokenizer, "push", watched)
        engine.stream(prompt, GenerationOptions(max_new_tokens=count)).result()
    return seen


def assert_equal(
    folder: Path | str, prompts: list[Prompt], monkeypatch: Any, tokens: int = 64
) -> None:
    native, reference = pair(folder)
    for prompt in prompts:
        assert distance(logits(native, prompt), logits(reference, prompt)) < 1e-4
        expected = greedy(reference, prompt, tokens, monkeypatch)
        assert greedy(native, prompt, tokens, monkeypatch) == expected
        assert len(set(expected)) > 5, "an answer of one repeated token would prove nothing"


def prompts_for(folder: Path | str, *counts: int) -> list[Prompt]:
    checkpoint = open_checkpoint(str(folder))
    size = checkpoint.image_size
    return [
        tinymodels.frames_prompt(
            checkpoint, tinymodels.random_images(count, size=size), "Tell me about it."
        )
        for count in counts
    ]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tinymodels.make_tiny(tmp_path / "tiny")


@pytest.mark.parametrize("family", ["smolvlm", "idefics3"])
@pytest.mark.parametrize("tied", [False, True])
def test_tiny_networks_equal_transformers(
    tmp_path: Path, family: tinymodels.Family, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tiny", family, tied=tied)
    assert_equal(folder, prompts_for(folder, 0, 1, 9), monkeypatch)


@pytest.mark.checkpoints
@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_shapes_equal_transformers(
    processor_files: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With some other seeds the logits of the two most likely tokens differ by only 2e-6.
    seed = 1 if name == "SmolVLM-Instruct" else 0
    folder = tinymodels.make_cut(processor_files / name, tmp_path / name, seed=seed)
    assert_equal(folder, prompts_for(folder, 1), monkeypatch, tokens=10)
    shutil.rmtree(folder)  # half a gigabyte for the big ones, and pytest keeps three runs


@pytest.mark.checkpoints
@pytest.mark.parametrize("name", SAME_SHAPE)
def test_other_checkpoints_have_one_of_these_shapes(processor_files: Path, name: str) -> None:
    def shape(config: dict[str, Any]) -> dict[str, Any]:
        return {
            key: shape(value) if isinstance(value, dict) else value
            for key, value in config.items()
            if key not in OF_THE_FAMILY | OF_THE_TEXT
        }

    other, compared = (
        json.loads((processor_files / one / "config.json").read_text("utf-8"))
        for one in (name, SAME_SHAPE[name])
    )
    assert shape(other) == shape(compared)


def test_nano_equals_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    native, reference = pair("nano")
    for prompt in prompts_for("nano", 0, 3):
        assert distance(logits(native, prompt), logits(reference, prompt)) < 1e-4
        expected = greedy(reference, prompt, 64, monkeypatch)
        assert greedy(native, prompt, 64, monkeypatch) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("_no_decode_kernel")
def test_bfloat16_error_is_no_larger_than_that_of_transformers(
    processor_files: Path, tmp_path: Path
) -> None:
    """Errors against float32, summed over several prompts of a published shape."""
    name = "SmolVLM2-256M-Video-Instruct"
    folder = tinymodels.make_cut(
        processor_files / name, tmp_path / name, vision_layers=2, text_layers=4
    )
    checkpoint = open_checkpoint(str(folder))
    exact = load_engine(checkpoint, engine="native", device="cpu", dtype="float32")
    assert isinstance(exact, NativeEngine)
    prompts = [
        tinymodels.frames_prompt(checkpoint, tinymodels.random_images(1, size=512, seed=seed))
        for seed in range(4)
    ]
    expected = [logits(exact, prompt) for prompt in prompts]
    errors = [
        sum(
            float((logits(engine, prompt) - wanted).norm() / wanted.norm())
            for prompt, wanted in zip(prompts, expected, strict=True)
        )
        for engine in pair(folder, "bfloat16")
    ]
    assert 0 < errors[0] <= errors[1] * 1.1
    shutil.rmtree(folder)


@pytest.mark.parametrize("family", ["smolvlm", "idefics3"])
def test_answer_that_fills_the_context_equals_transformers(
    tmp_path: Path, family: tinymodels.Family
) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tiny", family)
    native, reference = pair(folder)
    (prompt,) = prompts_for(folder, 500)
    room = tinymodels.CONTEXT_TOKENS - len(prompt.token_ids)
    assert 1 < room < 100
    options = GenerationOptions(max_new_tokens=room)
    answer = native.stream(prompt, options).result()
    assert answer == replace(reference.stream(prompt, options).result(), usage=answer.usage)
    assert answer.stop_reason == "length"


@pytest.mark.usefixtures("_no_decode_kernel")
def test_split_image_equals_transformers(processor_files: Path, tmp_path: Path) -> None:
    name = "SmolVLM2-256M-Video-Instruct"
    folder = tinymodels.make_cut(processor_files / name, tmp_path / name)
    checkpoint = open_checkpoint(str(folder))
    picture = FrameBatch(
        tinymodels.random_images(1, size=640)[:, :360],
        (0.0,),
        VideoMetadata(640, 360, 0.0, kind="image"),
    )
    options = PromptOptions(split_images=True)
    prompt = pack_prompt([Message("user", (picture, "What is it?"))], checkpoint, options)
    assert len(prompt.images) == 13
    native, reference = pair(folder)
    assert distance(logits(native, prompt), logits(reference, prompt)) < 1e-4
    shutil.rmtree(folder)
