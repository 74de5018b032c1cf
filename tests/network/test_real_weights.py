"""Weights that were really trained, which behave otherwise than random ones: SmolLM2-135M."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.real_weights import PLAIN_ENGLISH, installed_gguf, make_smollm2
from support.tinymodels import frames_prompt, random_images

from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.prompt import Prompt

pytestmark = pytest.mark.real_weights

SHORT = GenerationOptions(max_new_tokens=16)
QUESTIONS = ("What is the capital of France?", "Why is the sky blue?", "Write a line about tea.")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gguf = installed_gguf()
    assert gguf is not None
    return make_smollm2(gguf, tmp_path_factory.mktemp("real") / "smollm2")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> NativeEngine:
    loaded = load_engine(str(checkpoint), engine="native", device="cpu", dtype="bf16")
    assert isinstance(loaded, NativeEngine)
    return loaded


def ask(engine: NativeEngine, question: str) -> Prompt:
    """A question as SmolLM2 was trained on it."""
    turns = (("user", question), ("assistant", ""))
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in turns)
    token_ids = engine.checkpoint.tokenizer.encode(text.removesuffix("<|im_end|>\n")).ids
    prompt = frames_prompt(engine.checkpoint, random_images(0), question, head="")
    return replace(prompt, token_ids=tuple(token_ids))


def test_a_session_answers_as_the_engine_does(engine: NativeEngine) -> None:
    for question in QUESTIONS:
        prompt = ask(engine, question)
        answers = [
            engine.stream(prompt, SHORT).result().text,
            engine.start_session(prompt).stream(prompt, SHORT).result().text,
            *(answer.text for answer in engine.answer_batch([prompt], SHORT)),
        ]
        assert answers == answers[:1] * 3
    assert "Paris" in engine.stream(ask(engine, QUESTIONS[0]), SHORT).result().text


def test_no_token_ties_for_the_most_likely(engine: NativeEngine) -> None:
    network, text = engine.network, PLAIN_ENGLISH.read_text(encoding="utf-8")
    ids = engine.checkpoint.text_tokenizer.encode(text, add_special_tokens=False).ids[:600]
    with torch.inference_mode():
        vectors = network.model.text_model.embed_tokens(torch.tensor([ids]))
        logits = network.prefill(vectors, network.new_cache(len(ids)), last=len(ids))
    assert logits.dtype is torch.float32
    first, second = logits.topk(2).values.unbind(-1)
    assert not (first == second).any()
    rounded, other = logits.bfloat16().topk(2).values.unbind(-1)
    assert (rounded == other).float().mean() > 0.02, "as they did in bfloat16"
