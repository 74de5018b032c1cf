"""Batched generation gives each prompt the answer that it gets alone."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tinymodels

from smolvideo.answer import Answer
from smolvideo.engines import GenerationOptions, NativeEngine, load_engine
from smolvideo.errors import PromptError
from smolvideo.network import BatchedKVCache, KVCache
from smolvideo.progress import Progress
from smolvideo.prompt import Prompt

SHORT = GenerationOptions(max_new_tokens=12)
WORDS = ["Who?", "What is it?", "Where does the large thing go, and why there?", "When", "W" * 40]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("batch") / "tiny")
    loaded = load_engine(str(folder), engine="native", device="cpu")
    assert isinstance(loaded, NativeEngine)
    return loaded


def ask(engine: NativeEngine, question: str, *, frames: int = 3, seed: int = 0) -> Prompt:
    images = tinymodels.random_images(frames, seed=seed)
    return tinymodels.frames_prompt(engine.checkpoint, images, question)


def alone(
    engine: NativeEngine, prompts: list[Prompt], generation: GenerationOptions = SHORT
) -> list[tuple[str, str, int]]:
    return [told(engine.stream(prompt, generation).result()) for prompt in prompts]


def told(answer: Answer) -> tuple[str, str, int]:
    return answer.text, answer.stop_reason, answer.usage.answer_tokens


def test_batch_on_one_video_equals_single_answers(engine: NativeEngine) -> None:
    prompts = [ask(engine, question) for question in WORDS]
    assert [told(a) for a in engine.answer_batch(prompts, SHORT)] == alone(engine, prompts)


def test_batch_on_several_videos_equals_single_answers(engine: NativeEngine) -> None:
    prompts = [
        ask(engine, question, frames=1 + 2 * place, seed=place)
        for place, question in enumerate(WORDS)
    ]
    prompts.append(ask(engine, "No frames at all?", frames=0))
    assert [told(a) for a in engine.answer_batch(prompts, SHORT)] == alone(engine, prompts)


def test_duplicate_prompts_and_a_batch_of_one(engine: NativeEngine) -> None:
    prompt = ask(engine, "Who?")
    once = alone(engine, [prompt])
    assert [told(a) for a in engine.answer_batch([prompt, prompt], SHORT)] == once * 2
    assert [told(a) for a in engine.answer_batch([prompt], SHORT)] == once
    assert engine.answer_batch([], SHORT) == []


@settings(max_examples=12, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(WORDS), st.integers(0, 4), st.integers(0, 1)),
        min_size=1,
        max_size=6,
    )
)
def test_any_mixture_of_prompts_equals_single_answers(
    engine: NativeEngine, shapes: list[tuple[str, int, int]]
) -> None:
    prompts = [ask(engine, question, frames=n, seed=seed) for question, n, seed in shapes]
    assert [told(a) for a in engine.answer_batch(prompts, SHORT)] == alone(engine, prompts)


def test_sequences_leave_the_batch_at_their_own_stop(engine: NativeEngine) -> None:
    """The stop string ends some answers early; their rows leave the batch while others continue."""
    prompts = [ask(engine, question, seed=place) for place, question in enumerate(WORDS)]
    long = GenerationOptions(max_new_tokens=24)
    said = [answer.text for answer in engine.answer_batch(prompts, long)]
    stop = next(text[3] for text in said if len(text) > 6 and text[3].strip())
    stopping = replace(long, stop=(stop,))
    answers = [told(answer) for answer in engine.answer_batch(prompts, stopping)]
    assert answers == alone(engine, prompts, stopping)
    assert len({tokens for _, _, tokens in answers}) > 1
    assert {reason for _, reason, _ in answers} >= {"stop_string"}


def test_sampled_answers_follow_the_seed(engine: NativeEngine) -> None:
    prompts = [ask(engine, question) for question in WORDS[:3]]
    drawn = GenerationOptions(max_new_tokens=12, temperature=1.5, seed=7, repetition_penalty=1.2)
    answers = [told(answer) for answer in engine.answer_batch(prompts, drawn)]
    assert answers == alone(engine, prompts, drawn)


def test_session_continues_after_a_batch(engine: NativeEngine) -> None:
    first, *others = (ask(engine, question) for question in WORDS)
    session = engine.start_session(first)
    assert [told(a) for a in session.answer_batch(others, SHORT)] == alone(engine, others)
    assert [told(session.stream(first, SHORT).result())] == alone(engine, [first])


def test_shared_video_is_encoded_and_prefilled_once(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    decoder = type(engine.network.model.text_model)
    read = decoder.prefill

    def watched(self, x, cache, *, num_logits=1):  # type: ignore[no-untyped-def]
        rows.append(x.shape[1])
        return read(self, x, cache, num_logits=num_logits)

    monkeypatch.setattr(decoder, "prefill", watched)
    events: list[Progress] = []
    prompts = [ask(engine, question) for question in WORDS]
    engine.answer_batch(prompts, SHORT, on_progress=events.append)
    assert rows[0] == len(prompts[0].token_ids)
    assert sum(rows[1:]) < len(prompts[0].token_ids) + 5 * max(map(len, WORDS))
    assert sum(event.stage == "encode" and event.done == 0 for event in events) == 1
    assert [event.done for event in events if event.stage == "generate"][-1] == 12 * len(WORDS)


def test_prompt_over_the_context_fails_before_any_computation(engine: NativeEngine) -> None:
    fits = ask(engine, "Who?")
    too_long = replace(fits, token_ids=fits.token_ids + (5,) * engine.checkpoint.context_tokens)
    events: list[Progress] = []
    with pytest.raises(PromptError, match="can hold"):
        engine.answer_batch([fits, too_long], SHORT, on_progress=events.append)
    assert events == []


def test_equal_tokens_with_different_frames_share_no_prefix(engine: NativeEngine) -> None:
    """Two videos whose prompts have the same token ids."""
    prompts = [ask(engine, "What?", seed=1), ask(engine, "What?", seed=2)]
    assert prompts[0].token_ids == prompts[1].token_ids
    assert alone(engine, prompts[:1]) != alone(engine, prompts[1:])
    assert [told(a) for a in engine.answer_batch(prompts, SHORT)] == alone(engine, prompts)


def test_batched_decode_logits_equal_single_sequence_logits(engine: NativeEngine) -> None:
    """Shared prefix, suffixes of several lengths, and sequences that have left the batch."""
    config, random = engine.network.config.text, torch.Generator().manual_seed(0)

    def vectors(rows: int) -> torch.Tensor:
        return torch.randn(1, rows, config.hidden_size, generator=random)

    def cache_of(*parts: torch.Tensor) -> KVCache:
        cache = KVCache.empty(config, 64, device=torch.device("cpu"), dtype=torch.float32)
        for part in parts:
            engine.network.prefill(part, cache)
        return cache

    common, owns, news = vectors(9), [vectors(n) for n in (1, 7, 4)], [vectors(1) for _ in range(3)]
    with torch.inference_mode():
        caches = [cache_of(common, own) for own in owns]
        batch = BatchedKVCache(caches[0].fork(9), 3, 32)
        for place, cache in enumerate(caches):
            batch.load_sequence(place, cache)
        for order in ([0, 1, 2], [2, 0], [0]):
            if len(order) < len(batch):
                batch.select_sequences(order)
                caches, news = [caches[at] for at in order], [news[at] for at in order]
            expected = torch.cat(
                [engine.network.prefill(new, c) for new, c in zip(news, caches, strict=True)]
            )
            got = engine.network.decode_batch(torch.cat(news)[:, 0], batch)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_batch_of_nano_equals_single_answers() -> None:
    loaded = load_engine("nano", engine="native", device="cpu")
    assert isinstance(loaded, NativeEngine)
    size = loaded.checkpoint.image_size
    prompts = [
        tinymodels.frames_prompt(
            loaded.checkpoint, tinymodels.random_images(4, size=size, seed=seed), question
        )
        for seed, question in enumerate(WORDS)
    ]
    assert [told(a) for a in loaded.answer_batch(prompts, SHORT)] == alone(loaded, prompts)
