"""nano as shipped: answers about the samples, the blind condition, notices, parity, size."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.project import ROOT

import smolvideo
from smolvideo.cli.main import cli
from smolvideo.engines import Engine, FeatureCache, load_engine
from smolvideo.evals.protocol import format_question
from smolvideo.models import open_checkpoint
from smolvideo.pipeline import prepare, stream_answer, unknown_word_notices
from smolvideo.prompt import Message, Prompt, pack_prompt
from smolvideo.sampling import FrameSampling
from smolvideo.train.world.question import same_answer

SAMPLES = ROOT / "samples"
SHAPE_OF_IT = "What shape is the purple object?"


QUESTIONS = [
    json.loads(line)
    for line in (SAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]


@dataclass(frozen=True)
class Asked:
    """A line of questions.jsonl with nano's answer, and for half of the videos its blind answer."""

    video: str
    type: str
    answer: str
    seen: str
    blind: str | None


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    # A dozen questions share the same frames.
    kept = FeatureCache(tmp_path_factory.mktemp("features"))
    return load_engine(open_checkpoint("nano"), device="cpu", cache=kept)


@pytest.fixture(scope="module")
def asked(nano: Engine) -> list[Asked]:
    return list(ask_all(nano))


def ask_all(nano: Engine) -> Iterator[Asked]:
    for place, video in enumerate(sorted({item["video"] for item in QUESTIONS})):
        items = [item for item in QUESTIONS if item["video"] == video]
        prepared = prepare(nano.checkpoint, SAMPLES / video, items[0]["question"])
        (frames,) = prepared.batches
        # All questions about a video in one batch; each is the only question of its prompt.
        prompts = [
            pack_prompt([Message("user", (frames, item["question"]))], nano.checkpoint)
            for item in items
        ]
        assert prompts[0].token_ids == prepared.prompt.token_ids
        seen = texts(nano, prompts)
        blind: list[str | None] = [None] * len(prompts)
        if place % 2:
            grey = np.full_like(prepared.prompt.images, 128)
            blind = [*texts(nano, [replace(prompt, images=grey) for prompt in prompts])]
        for item, one, other in zip(items, seen, blind, strict=True):
            yield Asked(video, item["type"], item["answer"], one, other)


def texts(nano: Engine, prompts: list[Prompt]) -> list[str]:
    return [answer.text for answer in nano.answer_batch(prompts)]


def share_right(asked: list[Asked]) -> float:
    right = [same_answer(a.seen, a.answer) for a in asked]
    return sum(right) / len(right)


@pytest.mark.slow
def test_answers_about_the_samples_are_right(asked: list[Asked]) -> None:
    wrong = [(a.type, a.answer, a.seen) for a in asked if not same_answer(a.seen, a.answer)]
    assert share_right(asked) >= 0.85, wrong
    open_questions = [a for a in asked if a.type != "yes-no"]
    assert len(open_questions) >= 60
    assert share_right(open_questions) >= 0.85, wrong


@pytest.mark.slow
def test_blind_accuracy_is_at_most_half(asked: list[Asked]) -> None:
    right = [same_answer(a.blind, a.answer) for a in asked if a.blind is not None]
    assert len(right) > 80
    assert sum(right) / len(right) <= share_right(asked) / 2


@pytest.mark.parametrize("before", ["What is in this video?", "How many things are there?"])
def test_follow_up_questions_are_answered_as_accurately(
    nano: Engine, asked: list[Asked], before: str
) -> None:
    """After any earlier question and answer."""
    videos = [f"{name}.mp4" for name in ("triangle_down", "circle_appears", "three_shots")]
    videos.append("number_42.mp4")
    videos = videos[:2] if before == "What is in this video?" else videos[2:]
    first = sum(same_answer(a.seen, a.answer) for a in asked if a.video in videos)
    second = 0
    for video in videos:
        items = [item for item in QUESTIONS if item["video"] == video]
        prepared = prepare(nano.checkpoint, SAMPLES / video, before)
        (frames,) = prepared.batches
        said = Message("assistant", (stream_answer(nano, prepared).result().text,))
        opening = [Message("user", (frames, before)), said]
        prompts = [
            pack_prompt([*opening, Message("user", (item["question"],))], nano.checkpoint)
            for item in items
        ]
        answered = zip(texts(nano, prompts), items, strict=True)
        second += sum(same_answer(text, item["answer"]) for text, item in answered)
    assert first > 25
    assert second >= first * 0.9


def test_ask_prints_only_the_answer() -> None:
    words = ["ask", str(SAMPLES / "circle_right.mp4"), "What colour is the background?"]
    done = CliRunner().invoke(cli, words)
    assert (done.exit_code, done.stdout) == (0, "brown\n")
    assert "nano is a small model" not in done.stderr


def test_real_footage_has_a_notice(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (320, 240), (128, 128, 128)).save(tmp_path / "photo.png")
    done = CliRunner().invoke(cli, ["ask", str(tmp_path / "photo.png"), "What is in it?"])
    assert done.exit_code == 0
    assert done.stdout.strip()
    assert "nano is a small model trained on drawn scenes" in done.stderr


def test_options_are_answered_with_words_and_letter_without_a_notice() -> None:
    asked = format_question("plain", "cinepile", SHAPE_OF_IT, ["star", "circle", "cross"], None)
    done = CliRunner().invoke(cli, ["ask", str(SAMPLES / "circle_right.mp4"), asked.text])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{SHAPE_OF_IT}\nThat is: circle\nAnswer: B\n"


def test_words_outside_the_training_vocabulary_are_named() -> None:
    words = ["ask", str(SAMPLES / "circle_right.mp4"), "Who elected the president of this circle?"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0
    assert "nano knows the words of its drawn world, and not" in done.stderr
    assert "`who`, `elected`, `president`" in " ".join(done.stderr.split())


def test_sample_questions_are_in_the_training_vocabulary(nano: Engine) -> None:
    for item in QUESTIONS:
        assert not list(unknown_word_notices(item["question"], nano.checkpoint))


def test_model_without_training_vocabulary_has_no_notice(nano: Engine) -> None:
    published = replace(nano.checkpoint, layout="smolvlm2")
    assert published.training_vocabulary is None
    assert not list(unknown_word_notices("Who is the president?", published))


def test_transformers_class_gives_the_same_answer(nano: Engine) -> None:
    """Uses only transformers: its class, its generate, the prompt's ids and pixels."""
    import torch
    from transformers import SmolVLMForConditionalGeneration

    folder = nano.checkpoint.folder
    model = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    prepared = prepare(
        nano.checkpoint,
        SAMPLES / "triangle_down.mp4",
        "What is in this video?",
        sampling=FrameSampling(max_frames=12),
    )
    ids = torch.tensor([prepared.prompt.token_ids])
    pixels = torch.from_numpy(prepared.prompt.images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=((pixels.float() - 127.5) / 127.5)[None],
            max_new_tokens=40,
            do_sample=False,
        )
    text = nano.checkpoint.tokenizer.decode(out[0, ids.shape[1] :].tolist()).strip()
    assert text == stream_answer(nano, prepared).result().text


@pytest.mark.parametrize("frames", [1, 7, 50])
def test_any_number_of_frames_fits(nano: Engine, frames: int) -> None:
    sampling = FrameSampling(max_frames=frames, reduce_to_fit=False)
    video = SAMPLES / "square_then_circle.mp4"
    answer = smolvideo.ask(nano, video, "What colour is the background?", sampling=sampling)
    assert answer.usage.frames == frames
    assert answer.text == "grey"


def test_checkpoint_is_small_and_documents_its_training(nano: Engine) -> None:
    files = list(nano.checkpoint.folder.iterdir())
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    facts = json.loads((nano.checkpoint.folder / "training.json").read_text(encoding="utf-8"))
    assert facts["command"].startswith("smolvideo train nano")
    assert facts["held_out"]["all"] > 2 * facts["held_out_grey"]["all"]
