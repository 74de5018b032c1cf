"""Engines on tiny random networks: equal to transformers' generate; errors, stops, loading."""

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import tinymodels
from transformers.utils import logging

import smolvideo.engines.transformers as engine_module
from smolvideo.engines import (
    ENGINES,
    GenerationOptions,
    NativeEngine,
    TransformersEngine,
    frame_encoder,
    load_engine,
)
from smolvideo.engines.answer_text import StreamingDetokenizer
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.progress import Progress

FAMILIES = ("smolvlm", "idefics3")
CHUNKS = {"native": [2, 4, 6], "transformers": [4, 6]}
"""Number of encoded frames, of six, after each progress step."""


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp(request.param) / "tiny", request.param)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, folder: Path) -> NativeEngine | TransformersEngine:
    """Return each engine on each family."""
    loaded = load_engine(str(folder), engine=request.param, device="cpu")
    assert isinstance(loaded, NativeEngine | TransformersEngine)
    return loaded


@pytest.fixture(scope="module")
def reference(folder: Path) -> TransformersEngine:
    """Return the transformers engine on each family."""
    loaded = load_engine(str(folder), engine="transformers", device="cpu")
    assert isinstance(loaded, TransformersEngine)
    return loaded


@pytest.fixture(params=ENGINES)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of each engine."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tinymodels.make_tiny(tmp_path / "tiny")


@pytest.fixture
def token_ids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the ids that the engine decodes into text, in order."""
    seen: list[int] = []
    push = StreamingDetokenizer.push

    def watched(self: StreamingDetokenizer, token_id: int) -> str:
        seen.append(token_id)
        return push(self, token_id)

    monkeypatch.setattr(StreamingDetokenizer, "push", watched)
    return seen


def generated(engine: TransformersEngine, prompt, **options) -> list[int]:  # type: ignore[no-untyped-def]
    """Return the ids of transformers' generate for the same prompt, with all pixels in one call."""
    ids = torch.tensor([prompt.token_ids])
    if len(prompt.images):
        pixels = (torch.tensor(prompt.images).permute(0, 3, 1, 2)[None].float() - 127.5) / 127.5
        options["pixel_values"] = pixels.to(engine.network.dtype)
    out = engine.network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        eos_token_id=list(engine.checkpoint.eos_token_ids),
        pad_token_id=engine.checkpoint.pad_token_id,
        **options,
    )
    new: list[int] = out[0, ids.shape[1] :].tolist()
    return new


@pytest.mark.parametrize("frames", [0, 1, 9])
def test_greedy_tokens_equal_generate(
    engine: NativeEngine | TransformersEngine,
    reference: TransformersEngine,
    frames: int,
    token_ids: list[int],
) -> None:
    images = tinymodels.random_images(frames)
    prompt = tinymodels.frames_prompt(engine.checkpoint, images, "Tell me about it.")
    answer = engine.stream(prompt, GenerationOptions(max_new_tokens=64)).result()
    expected = generated(reference, prompt, max_new_tokens=64)
    assert len(set(expected)) > 5, "an answer of one repeated token would prove nothing"
    assert token_ids == [i for i in expected if i not in engine.checkpoint.eos_token_ids]
    assert answer.usage.answer_tokens == len(expected)


def test_repetition_penalty_equals_generate(
    engine: NativeEngine | TransformersEngine, reference: TransformersEngine, token_ids: list[int]
) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    options = GenerationOptions(max_new_tokens=40, repetition_penalty=1.8)
    engine.stream(prompt, options).result()
    plain = generated(reference, prompt, max_new_tokens=40)
    penalised = generated(reference, prompt, max_new_tokens=40, repetition_penalty=1.8)
    assert plain != penalised
    assert token_ids == penalised[: len(token_ids)]
    assert len(token_ids) >= 39


def test_half_precision_equals_generate(tiny: Path, token_ids: list[int]) -> None:
    engine = load_engine(str(tiny), engine="transformers", device="cpu", dtype="bf16")
    assert isinstance(engine, TransformersEngine)
    assert engine.dtype == "bfloat16"
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(4))
    engine.stream(prompt, GenerationOptions(max_new_tokens=32)).result()
    assert token_ids == generated(engine, prompt, max_new_tokens=32)


def test_answer_depends_on_the_frames(engine: NativeEngine | TransformersEngine) -> None:
    def text(seed: int) -> str:
        images = tinymodels.random_images(3, seed=seed)
        prompt = tinymodels.frames_prompt(engine.checkpoint, images)
        return engine.stream(prompt, GenerationOptions(max_new_tokens=24)).result().text

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_chunked_encoding_equals_encoding_at_once(
    reference: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tinymodels.random_images(11)
    images[4] = 0  # black is no padding
    images[5] = 128
    chunked = reference.encode(images)
    monkeypatch.setitem(engine_module._FRAMES_PER_CHUNK, "cpu", 99)
    at_once = reference.encode(images)
    assert chunked is not None
    assert at_once is not None
    assert chunked.shape == (11 * tinymodels.TOKENS_PER_IMAGE, 64)
    torch.testing.assert_close(chunked, at_once, rtol=1e-4, atol=1e-5)


def test_vision_tower_encodes_few_frames_per_call(reference: TransformersEngine) -> None:
    sizes: list[int] = []
    hook = reference.network.model.vision_model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    reference.encode(tinymodels.random_images(11))
    hook.remove()
    assert sizes == [4, 4, 3]


def test_streamed_pieces_join_to_the_text_and_progress_reports_all_stages(
    engine: NativeEngine | TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(frame_encoder._MAX_PATCHES_PER_CHUNK, "cpu", 2 * 16)  # two frames
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(6))
    reports: list[Progress] = []
    stream = engine.stream(prompt, GenerationOptions(max_new_tokens=30), on_progress=reports.append)
    pieces = list(stream)
    answer = stream.result()
    assert len(pieces) > 5
    assert "".join(pieces) == answer.text == answer.text.strip()
    stages = [report.stage for report in reports if report.stage != "generate"]
    assert stages == ["encode"] * (1 + len(CHUNKS[engine.name])) + ["prefill"] * 2
    assert [report.done for report in reports if report.stage == "encode"] == [
        0,
        *CHUNKS[engine.name],
    ]
    assert reports[-1] == Progress("generate", 30)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.frames) == (len(prompt.token_ids), 6)
    assert (usage.answer_tokens, usage.context_tokens) == (30, tinymodels.CONTEXT_TOKENS)
    assert set(usage.seconds) == {"encode", "prefill", "generate"}
    assert all(seconds > 0 for seconds in usage.seconds.values())
    assert usage.peak_memory_bytes is not None
    assert answer.stop_reason == "length"


def test_every_end_token_stops_generation(
    engine: NativeEngine | TransformersEngine, token_ids: list[int]
) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    engine.stream(prompt, GenerationOptions(max_new_tokens=30)).result()
    free = list(token_ids)
    token_ids.clear()
    place = next(k for k in range(5, 30) if free[k] not in free[:k])
    loaded = engine.encoder if isinstance(engine, NativeEngine) else engine.network
    ended = type(engine)(_ending_at(engine.checkpoint, free[place]), loaded)
    answer = ended.stream(prompt, GenerationOptions(max_new_tokens=30)).result()
    assert answer.stop_reason == "end"
    assert token_ids == free[:place]
    assert answer.usage.answer_tokens == place + 1


def _ending_at(checkpoint: Checkpoint, token_id: int) -> Checkpoint:
    from dataclasses import replace

    return replace(checkpoint, eos_token_ids=(*checkpoint.eos_token_ids, token_id))


def test_stop_strings_stop_generation(engine: NativeEngine | TransformersEngine) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    free = engine.stream(prompt, GenerationOptions(max_new_tokens=40)).result()
    stop = free.text[8:10]
    cut = free.text[: free.text.find(stop)]
    answer = engine.stream(prompt, GenerationOptions(max_new_tokens=40, stop=(stop,))).result()
    assert (answer.text, answer.stop_reason) == (cut.strip(), "stop_string")
    assert answer.usage.answer_tokens < free.usage.answer_tokens


def test_sampling_is_determined_by_the_seed(engine: NativeEngine | TransformersEngine) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(1))

    def text(seed: int) -> str:
        options = GenerationOptions(max_new_tokens=20, temperature=1.2, top_p=0.95, seed=seed)
        return engine.stream(prompt, options).result().text

    assert text(7) == text(7)
    assert text(7) != text(8)


def test_stream_is_lazy_and_close_frees_its_memory(
    reference: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoders: list[weakref.ref[object]] = []
    steps: list[int] = []

    class Watched(engine_module._Decoder):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            decoders.append(weakref.ref(self))

        def decode(self, token_id: int) -> torch.Tensor:
            steps.append(token_id)
            return super().step(token_id)

    monkeypatch.setattr(engine_module, "_Decoder", Watched)
    prompt = tinymodels.frames_prompt(reference.checkpoint, tinymodels.random_images(2))
    stream = reference.stream(prompt, GenerationOptions(max_new_tokens=200))
    assert decoders == []
    next(iter(stream))
    begun = len(steps)
    assert begun < 20
    stream.close()
    gc.collect()
    assert decoders[0]() is None, "the cache of keys and values outlives the answer"
    with pytest.raises(ModelError, match="broken off"):
        stream.result()
    assert len(steps) == begun


def test_interrupt_passes_through_every_stage(engine: NativeEngine | TransformersEngine) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    for stage in ("encode", "prefill", "generate"):

        def interrupt(progress: Progress, stage: str = stage) -> None:
            if progress.stage == stage:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.stream(prompt, on_progress=interrupt).result()
    assert engine.stream(prompt, GenerationOptions(max_new_tokens=3)).result().text


@pytest.mark.parametrize("part", ["vision_model", "text_model.norm"])
def test_out_of_memory_while_running_is_a_model_error(
    engine: NativeEngine | TransformersEngine, part: str
) -> None:
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2))
    hook = engine.network.model.get_submodule(part).register_forward_hook(exhausted)
    with pytest.raises(ModelError, match="ran out of memory while") as caught:
        engine.stream(prompt).result()
    hook.remove()
    assert "--max-frames" in str(caught.value.hint)


def test_overflowing_logits_are_an_error(name: str, tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    weights["model.text_model.norm.weight"].fill_(float("nan"))
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    engine = load_engine(str(tiny), engine=name, device="cpu")
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(1))
    with pytest.raises(ModelError, match="computed no numbers"):
        engine.stream(prompt).result()


def test_prompt_over_the_context_is_refused_before_computing(
    engine: NativeEngine | TransformersEngine,
) -> None:
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(500))
    room = tinymodels.CONTEXT_TOKENS - len(prompt.token_ids)
    assert room > 1
    engine.stream(prompt, GenerationOptions(max_new_tokens=room))
    with pytest.raises(PromptError, match="more than the 2,048") as caught:
        engine.stream(prompt, GenerationOptions(max_new_tokens=room + 1))
    assert "--max-frames" in str(caught.value.hint)


def test_number_of_images_must_match_their_tokens(
    engine: NativeEngine | TransformersEngine,
) -> None:
    from dataclasses import replace

    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(3))
    with pytest.raises(PromptError, match="12 places"):
        engine.stream(replace(prompt, images=prompt.images[:2]))
    other = tinymodels.random_images(3, size=48)
    with pytest.raises(PromptError, match="48 by 48"):
        engine.stream(replace(prompt, images=other))


# ------------------------------------------------------------------------------ loading


def test_unknown_engine_is_a_usage_error(tiny: Path) -> None:
    with pytest.raises(UsageError, match="unknown engine `vllm`") as caught:
        load_engine(str(tiny), engine="vllm")
    assert "`transformers`" in str(caught.value.hint)


def test_folder_is_accepted_as_a_path(tiny: Path) -> None:
    assert load_engine(tiny, device="cpu").checkpoint.folder == tiny


def test_loading_reports_progress_device_and_dtype(tiny: Path) -> None:
    reports: list[Progress] = []
    engine = load_engine(
        open_checkpoint(str(tiny)), engine="transformers", device="cpu", on_progress=reports.append
    )
    assert [(report.stage, report.label) for report in reports] == [("load", "tiny")] * 2
    assert (engine.name, engine.device, engine.dtype) == ("transformers", "cpu", "float32")
    assert engine.load_seconds > 0


def test_loading_prints_nothing(
    name: str, tiny: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    weights = load_file(tiny / "model.safetensors")
    weights["model.text_model.stray.weight"] = torch.zeros(2)
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    verbosity = logging.get_verbosity()
    with pytest.raises(ModelError):
        load_engine(str(tiny), engine=name, device="cpu")
    tinymodels.make_tiny(tiny)
    load_engine(str(tiny), engine=name, device="cpu")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.get_verbosity() == verbosity


def test_tied_head_needs_no_weights(name: str, tmp_path: Path) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tied", tied=True)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    engine = load_engine(str(folder), engine=name, device="cpu")
    prompt = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(1))
    assert engine.stream(prompt, GenerationOptions(max_new_tokens=5)).result().usage.answer_tokens


def _without_a_norm(weights: dict[str, torch.Tensor]) -> None:
    del weights["model.text_model.norm.weight"]


def _with_a_stray(weights: dict[str, torch.Tensor]) -> None:
    weights["model.text_model.stray.weight"] = torch.zeros(2)


def _with_a_short_head(weights: dict[str, torch.Tensor]) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"][:-1].clone()


def _without_a_layer(weights: dict[str, torch.Tensor]) -> None:
    for name in [name for name in weights if ".vision_model.encoder.layers.1." in name]:
        del weights[name]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_without_a_norm, "weight `model.text_model.norm.weight` is missing"),
        (_with_a_stray, "weight `model.text_model.stray.weight` does not belong"),
        (_with_a_short_head, "weight `lm_head.weight` has another shape"),
        (_without_a_layer, "and 13 more weights is missing"),
    ],
)
def test_missing_and_unexpected_weights_are_named(name: str, tiny: Path, harm, told: str) -> None:  # type: ignore[no-untyped-def]
    weights = load_file(tiny / "model.safetensors")
    harm(weights)
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="broken checkpoint") as caught:
        load_engine(str(tiny), engine=name, device="cpu")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_derived_from_the_config_are_ignored(name: str, tiny: Path) -> None:
    weights = load_file(tiny / "model.safetensors")
    prompt = tinymodels.frames_prompt(open_checkpoint(str(tiny)), tinymodels.random_images(1))
    before = load_engine(str(tiny), engine=name, device="cpu").stream(prompt).result().text
    weights["model.text_model.rotary_emb.inv_freq"] = torch.zeros(8)
    save_file(weights, tiny / "model.safetensors", metadata={"format": "pt"})
    # RoPE frequencies come from the config: these stored zeros would change every answer.
    assert load_engine(str(tiny), engine=name, device="cpu").stream(prompt).result().text == before
    assert before


def test_contradictory_config_is_an_error(name: str, tiny: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    config["text_config"]["num_attention_heads"] = "many"
    tinymodels.write_json(tiny / "config.json", config)
    with pytest.raises(ModelError, match="broken checkpoint") as caught:
        load_engine(str(tiny), engine=name, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_truncated_after_the_check_are_an_error(name: str, tiny: Path) -> None:
    checkpoint = open_checkpoint(str(tiny))
    file = tiny / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="broken checkpoint"):
        load_engine(checkpoint, engine=name, device="cpu")


def test_checkpoint_without_weights_is_an_error(name: str, tiny: Path) -> None:
    with pytest.raises(ModelError, match="were not fetched"):
        load_engine(open_checkpoint(str(tiny), weights=False), engine=name, device="cpu")
