"""Sessions: a follow-up question prefills only its own tokens and gives the answer of a fresh
engine.
"""

import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tinymodels

from smolvideo.engines import GenerationOptions, NativeEngine, frame_encoder, load_engine
from smolvideo.engines.token_sampler import TokenSampler
from smolvideo.errors import ModelError, PromptError
from smolvideo.frames import Images
from smolvideo.network import KVCache, NetworkConfig, decoder
from smolvideo.prompt import Prompt

SHORT = GenerationOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("session") / "tiny")
    loaded = load_engine(str(folder), engine="native", device="cpu")
    assert isinstance(loaded, NativeEngine)
    return loaded


@pytest.fixture
def read_rows(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many tokens each call of the decoder processes."""
    rows: list[int] = []
    decoder = engine.network.model.text_model
    read = type(decoder).prefill

    def watched(self, x, cache, *, num_logits=1):  # type: ignore[no-untyped-def]
        rows.append(x.shape[1])
        return read(self, x, cache, num_logits=num_logits)

    monkeypatch.setattr(type(decoder), "prefill", watched)
    return rows


@pytest.fixture
def encoded(engine: NativeEngine) -> Iterator[list[int]]:
    """Record how many frames each call of the vision tower encodes."""
    sizes: list[int] = []
    hook = engine.network.model.vision_model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    yield sizes
    hook.remove()


def ask(engine: NativeEngine, images: Images, question: str) -> Prompt:
    return tinymodels.frames_prompt(engine.checkpoint, images, question)


def fresh(engine: NativeEngine, prompt: Prompt) -> str:
    return engine.stream(prompt, SHORT).result().text


def test_cached_prefix_counts_what_need_not_be_computed_again(engine: NativeEngine) -> None:
    images = tinymodels.random_images(3)
    first, second = ask(engine, images, "What is it?"), ask(engine, images.copy(), "Who?")
    session = engine.open_session()
    assert session.cached_prefix(first) == (0, 0)
    session.prefill(first)
    assert session.cached_prefix(first) == (3, len(first))
    assert session.cached_prefix(second) == (3, len(second) - len("o?"))
    other = images.copy()
    other[1] += 1
    assert session.cached_prefix(ask(engine, other, "Who?")) == (
        1,
        second.token_ids.index(engine.checkpoint.image_token_id) + tinymodels.TOKENS_PER_IMAGE,
    )


def test_second_question_prefills_only_its_own_tokens(
    engine: NativeEngine, read_rows: list[int], encoded: list[int]
) -> None:
    images = tinymodels.random_images(9)
    first, second = ask(engine, images, "What is it?"), ask(engine, images.copy(), "Who?")
    session = engine.start_session(first)
    assert session.stream(first, SHORT).result().text == fresh(engine, first)
    encoded.clear()
    read_rows.clear()
    answer = session.stream(second, SHORT).result()
    assert encoded == []
    assert read_rows[0] == len("o?"), "both begin with Wh"
    assert answer.text == fresh(engine, second)
    assert answer.usage.prompt_tokens == len(second.token_ids)


@pytest.mark.parametrize(("dtype", "quantize"), [("float32", "none"), ("bf16", "int8")])
def test_engine_and_session_give_one_answer_to_a_prompt(
    engine: NativeEngine, dtype: str, quantize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit: rounding in the dtype of inference made sessions answer otherwise."""
    folder = str(engine.checkpoint.folder)
    loaded = load_engine(folder, engine="native", device="cpu", dtype=dtype, quantize=quantize)
    assert isinstance(loaded, NativeEngine)
    prompt = ask(loaded, tinymodels.random_images(3), "What is it?")
    other = ask(loaded, prompt.images, "What was it?")
    logits: list[torch.Tensor] = []
    sample = TokenSampler.sample
    monkeypatch.setattr(
        TokenSampler, "sample", lambda self, row: (logits.append(row), sample(self, row))[1]
    )
    session = loaded.start_session(prompt)
    streams = [
        loaded.stream(prompt, SHORT),
        session.fork().stream(prompt, SHORT),
        session.stream(prompt, SHORT),
        session.stream(prompt, SHORT),
    ]
    for stream in streams:
        stream.result()
    steps = torch.stack(logits).unflatten(0, (len(streams), -1))
    assert all(torch.equal(answer, steps[0]) for answer in steps[1:])
    del logits[:]
    session.answer_batch([prompt, other, prompt], SHORT)
    assert torch.equal(logits[0], steps[0, 0])
    assert torch.equal(session.prefill(other), logits[1])
    assert {row.dtype for row in logits} == {steps.dtype} == {torch.float32}


def test_other_frames_are_encoded_and_prefilled_again(
    engine: NativeEngine, encoded: list[int]
) -> None:
    images = tinymodels.random_images(6)
    session = engine.start_session(ask(engine, images, "What?"))
    changed = images.copy()
    changed[4, 3, 3, 1] ^= 255
    encoded.clear()
    prompt = ask(engine, changed, "What?")
    assert session.stream(prompt, SHORT).result().text == fresh(engine, prompt)
    assert sum(encoded) == 2 + 6, "frames 4 and 5 in the session, all of them afresh"
    for count in (2, 5, 0, 7):
        other = ask(engine, tinymodels.random_images(count), "What?")
        assert session.stream(other, SHORT).result().text == fresh(engine, other)


def test_interleaved_forks_answer_like_fresh_sessions(engine: NativeEngine) -> None:
    images = tinymodels.random_images(4)
    prompts = [ask(engine, images, text) for text in ("Red or blue?", "How many?", "Where?")]
    expected = [fresh(engine, prompt) for prompt in prompts]
    session = engine.start_session(prompts[0])
    forks = [session.fork() for _ in prompts]
    streams = [fork.stream(p, SHORT) for fork, p in zip(forks, prompts, strict=True)]
    streams += [session.stream(prompt, SHORT) for prompt in prompts]
    texts = [""] * len(streams)
    running = [iter(stream) for stream in streams]
    for _ in range(2 * SHORT.max_new_tokens):
        for place, pieces in enumerate(running):
            texts[place] += next(pieces, "")
    assert texts == expected * 2


def test_fork_shares_kv_storage_until_both_write(engine: NativeEngine) -> None:
    prompt = ask(engine, tinymodels.random_images(3), "What?")
    session = engine.start_session(prompt)
    fork = session.fork()
    assert fork._cache is not None
    assert session._cache is not None
    fork.stream(ask(engine, prompt.images, "What? And then?"), SHORT).result()
    assert fork._cache._block is session._cache._block
    session.stream(ask(engine, prompt.images, "What? Or else?"), SHORT).result()
    assert fork._cache._block is not session._cache._block


def test_finished_answer_frees_its_kv_entries_without_a_copy(engine: NativeEngine) -> None:
    prompt = ask(engine, tinymodels.random_images(3), "What?")
    session = engine.start_session(prompt)
    assert session._cache is not None
    block = weakref.ref(session._cache._block)
    for question in ("What? Why?", "What? How?"):
        session.stream(ask(engine, prompt.images, question), SHORT).result()
    assert session._cache._block is block(), "nothing was copied"
    session.stream(prompt, SHORT).close()
    del session
    gc.collect()
    assert block() is None


def test_prompt_over_the_context_leaves_the_session_unchanged(engine: NativeEngine) -> None:
    prompt = ask(engine, tinymodels.random_images(2), "What?")
    session = engine.start_session(prompt)
    with pytest.raises(PromptError, match="more than"):
        session.stream(ask(engine, tinymodels.random_images(512), "What?"), SHORT)
    assert session.stream(prompt, SHORT).result().text == fresh(engine, prompt)


def test_a_full_cache_grows(engine: NativeEngine) -> None:
    cache = KVCache.empty(
        engine.network.config.text, 4, device=torch.device("cpu"), dtype=torch.float32
    )
    vectors = torch.randn(1, 11, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        engine.network.prefill(vectors[:, :3], cache)
        engine.network.prefill(vectors[:, 3:10], cache)
        got = engine.network.prefill(vectors[:, 10:], cache)
        roomy = KVCache.empty(
            engine.network.config.text, 99, device=torch.device("cpu"), dtype=torch.float32
        )
        expected = engine.network.prefill(vectors, roomy)
    assert cache.length == 11
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_resized_cache_is_not_overwritten_by_forks(engine: NativeEngine) -> None:
    """The first writer keeps a contested KV entry; the other fork copies its storage."""
    config = engine.network.config.text
    cpu, dtype = torch.device("cpu"), torch.float32
    vectors = torch.randn(1, 14, 64, generator=torch.Generator().manual_seed(1))
    cache = KVCache.empty(config, 4, device=cpu, dtype=dtype)
    with torch.inference_mode():
        engine.network.prefill(vectors[:, :3], cache)
        cache.reserve(40)  # grows
        engine.network.prefill(vectors[:, 3:10], cache)
        assert cache.capacity >= cache.length + 2, "both find room where they are"
        fork = cache.fork()
        one = [engine.network.prefill(vectors[:, 10:11], cache)]
        other = [engine.network.prefill(vectors[:, 12:13], fork)]
        one.append(engine.network.prefill(vectors[:, 11:12], cache))
        other.append(engine.network.prefill(vectors[:, 13:14], fork))
        for got, own in ((one, [10, 11]), (other, [12, 13])):
            roomy = KVCache.empty(config, 99, device=cpu, dtype=dtype)
            engine.network.prefill(vectors[:, :10], roomy)
            for scores, place in zip(got, own, strict=True):
                expected = engine.network.prefill(vectors[:, place : place + 1], roomy)
                torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)


def test_session_recovers_after_a_failed_prefill(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tinymodels.random_images(3)
    first, second, third = (
        ask(engine, images, text) for text in ("What is it?", "Who?", "What is on?")
    )
    session = engine.start_session(first)
    read = type(engine.network).prefill

    def failing(self, vectors, cache, **options):  # type: ignore[no-untyped-def]
        read(self, vectors, cache, **options)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(type(engine.network), "prefill", failing)
        with pytest.raises((ModelError, RuntimeError), match="memory"):
            session.stream(second, SHORT).result()
    for prompt in (third, first):
        assert session.score(prompt, [" yes", " no"]) == pytest.approx(
            engine.start_session(prompt).score(prompt, [" yes", " no"]), abs=1e-3
        )
        assert session.stream(prompt, SHORT).result().text == fresh(engine, prompt)


@pytest.mark.parametrize("last", [1, 6])
def test_long_prompts_are_prefilled_in_chunks(
    engine: NativeEngine, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = torch.randn(1, 11, 64, generator=torch.Generator().manual_seed(0))

    def read() -> torch.Tensor:
        cache = KVCache.empty(
            engine.network.config.text, 11, device=torch.device("cpu"), dtype=torch.float32
        )
        with torch.inference_mode():
            return engine.network.prefill(vectors, cache, last=last)

    expected = read()
    parts: list[int] = []
    text_model = engine.network.model.text_model
    append = text_model._append
    monkeypatch.setattr(text_model, "_chunk_size", 4)
    monkeypatch.setattr(
        text_model, "_append", lambda x, cache: (parts.append(x.shape[1]), append(x, cache))[1]
    )
    assert expected.shape[0] == last
    torch.testing.assert_close(read(), expected, rtol=1e-4, atol=1e-5)
    assert parts == [4, 4, 3]


@pytest.mark.parametrize(
    ("name", "quantize", "rows"),
    [
        ("SmolVLM2-256M-Video-Instruct", False, 2048),
        ("SmolVLM2-2.2B-Instruct", False, 384),
        ("SmolVLM2-2.2B-Instruct", True, 2048),
    ],
)
def test_prefill_chunk_size_follows_the_model_size(
    processor_files: Path, name: str, quantize: bool, rows: int
) -> None:
    config = NetworkConfig.from_json(
        json.loads((processor_files / name / "config.json").read_text())
    )
    with torch.device("meta"):
        text_model = decoder.Decoder(replace(config.text, num_hidden_layers=1, vocab_size=64))
    if quantize:
        text_model.layers[0].mlp.down_proj.quantize(torch.zeros(16, 32), torch.bfloat16)
    assert text_model._chunk_size == rows


@pytest.fixture
def _two_frames_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(frame_encoder._MAX_PATCHES_PER_CHUNK, "cpu", 2 * 16)


@pytest.mark.usefixtures("_two_frames_at_once")
def test_encode_processes_few_frames_per_call_and_equals_single_frames(
    engine: NativeEngine, encoded: list[int]
) -> None:
    features = engine.encode(tinymodels.random_images(11))
    assert features.shape == (11, tinymodels.TOKENS_PER_IMAGE, 64)
    assert max(encoded) == 2
    assert sum(encoded) == 11
    one_by_one = [engine.encode(image[None]) for image in tinymodels.random_images(11)]
    torch.testing.assert_close(features, torch.cat(one_by_one), rtol=1e-4, atol=1e-5)
    assert engine.encode(np.zeros((0, 32, 32, 3), np.uint8)).shape[0] == 0


def test_loading_converts_one_tensor_at_a_time(tmp_path: Path) -> None:
    """Peak memory, measured in a subprocess, stays below float32 and bfloat16 copies together."""
    import subprocess
    import sys

    from safetensors.torch import load_file, save_file

    folder = tinymodels.make_tiny(tmp_path / "wide")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(hidden_size=1024, intermediate_size=2048, num_hidden_layers=5)
    config["text_config"].update(num_attention_heads=16, num_key_value_heads=16, head_dim=64)
    tinymodels.save_random_weights(folder, config)
    weights = {
        name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    stored = (folder / "model.safetensors").stat().st_size
    assert stored > 200e6
    del weights
    code = """
import resource, sys, torch
from smolvideo.engines import load_engine
load_engine(sys.argv[1] + "/small", engine="native", device="cpu", dtype="bf16")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_engine(sys.argv[1] + "/wide", engine="native", device="cpu", dtype="bf16")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    tinymodels.make_tiny(tmp_path / "small")
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert int(run.stdout) < stored * 0.5 * 1.3, "the bfloat16 network and a tensor or two"
    (folder / "model.safetensors").unlink()


def test_sharded_checkpoint_equals_single_file(tmp_path: Path, engine: NativeEngine) -> None:
    from safetensors.torch import load_file, save_file

    folder = tinymodels.make_tiny(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, folder / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    tinymodels.write_json(folder / "model.safetensors.index.json", index)
    sharded = load_engine(str(folder), engine="native", device="cpu")
    prompt = ask(engine, tinymodels.random_images(2), "What?")
    assert sharded.stream(prompt, SHORT).result().text == fresh(engine, prompt)
    twice = names[0]
    save_file({name: weights[name] for name in [twice, *names[1::2]]}, folder / "b.safetensors")
    with pytest.raises(ModelError, match=rf"`{twice}` is in both `a\.s.*` and `b\.s.*`$"):
        load_engine(str(folder), engine="native", device="cpu")


def test_few_frames_are_split_evenly_over_threads(engine: NativeEngine, encoded: list[int]) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        engine.encode(tinymodels.random_images(8))
    finally:
        torch.set_num_threads(threads)
    assert sorted(encoded) == [2, 3, 3]


@pytest.mark.usefixtures("_two_frames_at_once")
def test_frames_encoded_in_parallel_equal_sequential_encoding(engine: NativeEngine) -> None:
    images = tinymodels.random_images(9)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = engine.encode(images)
        torch.set_num_threads(3)
        reports: list[int] = []
        got = engine.encode(images, on_progress=lambda progress: reports.append(progress.done))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert reports == [0, 2, 4, 6, 8, 9]
