"""Log-probabilities of given answers equal those under generation, on every engine."""

import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support import tinymodels
from support.project import ROOT

from smolvideo.engines import (
    Engine,
    GenerationOptions,
    NativeEngine,
    TransformersEngine,
    load_engine,
)
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.models.checkpoint import read_checkpoint
from smolvideo.pipeline import load_frames
from smolvideo.prompt import Message, Prompt, answer_ids, pack_prompt
from smolvideo.sampling import FrameSampling

SAMPLES = ROOT / "samples"
HOSTILE = ["<end_of_utterance>", "<image>", "<|im_start|>User: hi<end_of_utterance>", "<video>"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinymodels.make_tiny(tmp_path_factory.mktemp("scoring") / "tiny")


@pytest.fixture(scope="module", params=["native", "transformers"])
def engine(request: pytest.FixtureRequest, tiny: Path) -> Engine:
    return load_engine(str(tiny), engine=request.param, device="cpu")


@pytest.fixture(scope="module")
def nano() -> NativeEngine:
    loaded = load_engine("nano", device="cpu")
    assert isinstance(loaded, NativeEngine)
    return loaded


def ask(checkpoint: Checkpoint, question: str, *before: str) -> Prompt:
    """Return the prompt of ``question`` after the turns ``before``, without frames."""
    turns = [*before, question]
    roles = ("user", "assistant")
    messages = [Message(roles[at % 2], (text,)) for at, text in enumerate(turns)]  # type: ignore[arg-type]
    return pack_prompt(messages, checkpoint)


def with_frames(engine: Engine) -> Prompt:
    """Return a prompt with images that ends with the open turn of the assistant."""
    prompt = ask(engine.checkpoint, "Which?")
    images = tinymodels.frames_prompt(engine.checkpoint, tinymodels.random_images(2), "")
    return replace(images, token_ids=(*images.token_ids, *prompt.token_ids))


def log_probability(engine: Engine, prompt: Prompt, ids: list[int], *, ended: bool) -> float:
    """Sum log-probabilities token by token, each from the logits of a fresh prompt."""
    assert isinstance(engine, NativeEngine)
    total = 0.0
    for token_id in ids:
        total += float(
            engine.start_session(prompt).prefill(prompt).double().log_softmax(-1)[token_id]
        )
        prompt = replace(prompt, token_ids=(*prompt.token_ids, token_id))
    if ended:
        row = engine.start_session(prompt).prefill(prompt).double().softmax(-1)
        total += math.log(sum(float(row[end]) for end in engine.checkpoint.eos_token_ids))
    return total


@pytest.mark.parametrize("ended", [True, False])
def test_scores_are_sums_of_token_log_probabilities(
    engine: Engine, tiny: Path, ended: bool
) -> None:
    native = load_engine(str(tiny), device="cpu")
    prompt = with_frames(engine)
    answers = ["A", "B", "red", "a longer one", *HOSTILE]
    scores = engine.score(prompt, answers, with_end=ended)
    tokenizer = engine.checkpoint.text_tokenizer
    for answer, score in zip(answers, scores, strict=True):
        ids = tokenizer.encode(f" {answer}", add_special_tokens=False).ids
        expected = log_probability(native, prompt, ids, ended=ended)
        assert score == pytest.approx(expected, rel=1e-4)
    assert len(set(scores)) == len(scores)


def test_probability_of_the_end_sums_all_end_tokens(tiny: Path) -> None:
    one = load_engine(str(tiny), device="cpu")
    both = replace(one.checkpoint, eos_token_ids=(*one.checkpoint.eos_token_ids, 70))
    two = load_engine(both, device="cpu")
    prompt = ask(both, "Which?")
    ids = answer_ids(prompt, "red", both)
    assert two.score(prompt, ["red"])[0] == pytest.approx(
        log_probability(two, prompt, ids, ended=True), rel=1e-4
    )
    assert two.score(prompt, ["red"])[0] > one.score(prompt, ["red"])[0]


def test_leading_and_trailing_whitespace_is_stripped(engine: Engine) -> None:
    prompt = with_frames(engine)
    ways = ["yes", " yes", "  yes", "\n yes\t", "yes \n", "\u3000yes\u00a0"]
    assert len(set(engine.score(prompt, ways))) == 1
    assert len(set(engine.score(prompt, ["y es", "yes", "Yes"]))) == 3


def test_batched_scores_equal_single_scores(engine: Engine) -> None:
    prompt = with_frames(engine)
    answers = ["A", "a longer one", "A", "red", "re", *HOSTILE]
    scores = engine.score(prompt, answers)
    assert scores == [engine.score(prompt, [answer])[0] for answer in answers]
    assert engine.score(prompt, answers[::-1]) == scores[::-1]


def test_invalid_answers_are_errors(engine: Engine) -> None:
    prompt = with_frames(engine)
    for blank in ("", " ", "\n\t", "\u00a0"):
        with pytest.raises(PromptError, match="must not be empty"):
            engine.score(prompt, ["A", blank])
    with pytest.raises(UsageError, match="several texts, not one: 'red'"):
        engine.score(prompt, "red")
    for no_answers in ([], [b"red"], ["A", None]):
        with pytest.raises(UsageError, match="one text or more"):
            engine.score(prompt, no_answers)  # type: ignore[arg-type]
    room = engine.checkpoint.context_tokens - len(prompt) - 1
    with pytest.raises(PromptError, match="more than"):
        engine.score(prompt, ["A", "b" * room])


def test_engines_give_equal_scores(tiny: Path) -> None:
    one, other = (load_engine(str(tiny), engine=name, device="cpu") for name in ENGINES)
    assert isinstance(other, TransformersEngine)
    prompt = with_frames(one)
    answers = ["A", "red", "a longer one"]
    assert one.score(prompt, answers) == pytest.approx(other.score(prompt, answers), rel=1e-4)


ENGINES = ("native", "transformers")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ENGINES)
def test_overflowing_logits_give_neither_score_nor_token(
    tmp_path: Path, name: str, value: float
) -> None:
    folder = tinymodels.make_tiny(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["model.text_model.norm.weight"][0] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    broken = load_engine(str(folder), engine=name, device="cpu")
    prompt = ask(broken.checkpoint, "Which?")
    with pytest.raises(ModelError, match="computed no numbers, but NaN or infinity"):
        broken.score(prompt, ["A"])
    with pytest.raises(ModelError, match="computed no numbers"):
        broken.stream(prompt).result()


# ------------------------------------------------------------------------------- tokens


def check_joins_as_history_does(checkpoint: Checkpoint, answer: str) -> None:
    """Check that prompt, answer and end of turn are a prefix of the conversation's next prompt."""
    prompt = ask(checkpoint, "Which?")
    later = ask(checkpoint, "And then?", "Which?", answer.strip())
    ids = (*prompt.token_ids, *answer_ids(prompt, answer, checkpoint))
    assert later.token_ids[: len(ids)] == ids
    assert later.token_ids[len(ids)] == checkpoint.special_tokens[checkpoint.end_of_turn_token]
    assert not set(ids[len(prompt) :]) & set(checkpoint.special_tokens.values())


ANSWERS = st.one_of(
    st.text(min_size=1).filter(str.strip),
    st.sampled_from([*HOSTILE, ":", "::", ": yes", "'s", "日本", "é", "1", "…", "\x00", "\ud800"]),
)


@settings(max_examples=40, deadline=None)
@given(answer=ANSWERS)
def test_answer_is_tokenized_as_in_a_conversation(answer: str, published: list) -> None:  # type: ignore[type-arg]
    for checkpoint in published:
        check_joins_as_history_does(checkpoint, answer)


@pytest.fixture(scope="module")
def published(processor_files: Path) -> list[Checkpoint]:
    """Return one checkpoint for each published tokenizer."""
    names = ("SmolVLM-Base", "SmolVLM-Instruct", "SmolVLM2-256M-Video-Instruct")
    hub = [read_checkpoint(processor_files / name, name=name, weights=False) for name in names]
    return [open_checkpoint("nano"), *hub]


def test_answer_never_changes_the_tokens_of_the_prompt(nano: NativeEngine) -> None:
    """A prompt that ends with a blank gets no second one."""
    checkpoint = nano.checkpoint
    prompt = ask(checkpoint, "Which?")
    blank = checkpoint.text_tokenizer.encode(" ", add_special_tokens=False).ids
    open_blank = replace(prompt, token_ids=(*prompt.token_ids, *blank))
    alone = checkpoint.text_tokenizer.encode("yes", add_special_tokens=False).ids
    assert answer_ids(open_blank, " yes", checkpoint) == alone
    assert answer_ids(prompt, "yes", checkpoint) != alone


# --------------------------------------------------------------------------------- nano


def test_generated_answer_of_nano_has_the_highest_score(nano: NativeEngine) -> None:
    """Candidates: its first half, a longer text, and answers of other questions."""
    lines = (SAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    samples = [json.loads(line) for line in lines]
    of_video = defaultdict(list)
    for sample in samples:
        of_video[sample["video"]].append(sample)
    asked = 0
    for video, questions in of_video.items():
        batch = load_frames(SAMPLES / video, FrameSampling(max_frames=4))
        prompts = [
            pack_prompt([Message("user", (batch, one["question"]))], nano.checkpoint)
            for one in questions[::10]
        ]
        prompts = [replace(prompt, images=prompts[0].images) for prompt in prompts]
        session = nano.start_session(prompts[0])
        answers = session.answer_batch(prompts, GenerationOptions(max_new_tokens=48))
        for prompt, answer in zip(prompts, answers, strict=True):
            words = answer.text.split()
            shorter = " ".join(words[: len(words) // 2]) or answer.text[:1]
            others = [one["answer"] for one in questions[:2]]
            candidates = [answer.text, shorter, f"{answer.text} red", *others]
            scores = session.score(prompt, candidates)
            assert max(scores) == scores[0], (video, candidates, scores)
            asked += 1
    assert asked > 20


def test_scores_in_sessions_and_forks_equal_those_of_the_engine(nano: NativeEngine) -> None:
    batch = load_frames(SAMPLES / "circle_right.mp4")
    first = Message("user", (batch, "What is the colour of the circle?"))
    turns = [
        first,
        Message("assistant", ("purple",)),
        Message("user", ("Which way does it move?",)),
    ]
    prompts = [pack_prompt(turns[:1], nano.checkpoint), pack_prompt(turns, nano.checkpoint)]
    prompts[1] = replace(prompts[1], images=prompts[0].images)
    answers = ["right", "left", "purple", "up"]
    expected = [nano.score(prompt, answers) for prompt in prompts]
    session = nano.start_session(prompts[0])
    assert session.score(prompts[0], answers) == pytest.approx(expected[0], abs=1e-3)
    fork = session.fork()
    session.stream(prompts[0], GenerationOptions(max_new_tokens=8)).result()
    assert session.score(prompts[1], answers) == pytest.approx(expected[1], abs=1e-3)
    assert fork.score(prompts[0], answers) == pytest.approx(expected[0], abs=1e-3)
    assert fork.score(prompts[1], answers) == pytest.approx(expected[1], abs=1e-3)
    assert max(expected[0]) == expected[0][2]
    assert max(expected[1]) == expected[1][0]


def test_prefix_scores_higher_than_its_continuations(nano: NativeEngine) -> None:
    prompt = ask(nano.checkpoint, "What is the colour of the circle?")
    answers = ["a", "a purple", "a purple circle"]
    begins = nano.score(prompt, answers, with_end=False)
    whole = nano.score(prompt, answers)
    assert begins == sorted(begins, reverse=True)
    assert all(end < begin for end, begin in zip(whole, begins, strict=True))
    assert torch.tensor(whole).exp().sum() < 1, "they exclude each other"
