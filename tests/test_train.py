"""The recipe: batches that mask and aim right, a loss that falls, a course that goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from smolvideo.engines.devices import usable_cores
from smolvideo.errors import UsageError
from smolvideo.frames import FrameBatch, PlannedFrames, VideoMetadata
from smolvideo.models import open_checkpoint
from smolvideo.network import SmolVLM
from smolvideo.prompt import Message, count_tokens, pack_prompt
from smolvideo.train.architecture import NANO
from smolvideo.train.batches import LOOKS, draw_asked_videos, draw_labelled_pictures, pack_questions
from smolvideo.train.course import Course, TrainOptions, TrainProgress
from smolvideo.train.examine import examine
from smolvideo.train.nano import Trainer, train_nano
from smolvideo.train.tokenizer import SPECIAL_TOKENS, train_tokenizer
from smolvideo.train.world.questions import Question, corpus


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(corpus())


def test_tokenizer_knows_every_byte_and_spells_digits(tokenizer: Tokenizer) -> None:
    for text in ("Où est l'étoile ⭐?", "\x00\x1b[31m", "12:34", "a red circle"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("00:15").tokens == ["0", "0", ":", "1", "5"]
    assert [tokenizer.token_to_id(name) for name in SPECIAL_TOKENS] == list(range(7))


def test_labels_say_what_the_pictures_show() -> None:
    labels = draw_labelled_pictures(Random(0), 64, NANO)
    assert labels.pixels.shape == (64, 3, 96, 96)
    assert labels.present.shape == (64, NANO.tokens_per_image, len(LOOKS))
    things = labels.present.sum((1, 2))
    assert 1 <= things.min() <= things.max() <= 3
    # Whatever has its centre somewhere also covers patches there.
    for picture in range(64):
        on_patches = set(labels.patches[picture].tolist()) - {0}
        in_cells = {int(look) + 1 for look in labels.present[picture].nonzero()[:, 1]}
        assert on_patches == in_cells


def test_questions_see_the_frames_and_themselves_only(tokenizer: Tokenizer) -> None:
    batch = draw_asked_videos(
        Random(0), videos=2, frames=3, questions=4, network=NANO, tokenizer=tokenizer
    )
    sees = batch.mask(torch.float32)[:, 0] == 0
    blocks = batch.blocks
    for row in range(2):
        for token in range(blocks.shape[1]):
            seen = blocks[row][sees[row, token]]
            assert set(seen.tolist()) <= {0, int(blocks[row, token])}
            assert not sees[row, token, token + 1 :].any()


def test_targets_are_the_answers_and_their_end(tokenizer: Tokenizer) -> None:
    question = Question("colour", "What colour is the star?", "red")
    row = pack_questions(["00:00", "00:01"], [question, question], 4, tokenizer)
    aimed = [target for target in row.targets if target != -100]
    answer = [*tokenizer.encode(" red").ids, tokenizer.token_to_id("<end_of_utterance>")]
    assert aimed == answer * 2
    first = row.blocks.index(1)
    second = row.blocks.index(2)
    assert row.positions[first] == row.positions[second] == first


@pytest.mark.parametrize(("kind", "stamps"), [("video", ["00:00", "00:01"]), ("image", [])])
def test_training_reads_the_prompt_that_ask_packs(
    kind: str, stamps: list[str], tokenizer: Tokenizer
) -> None:
    """What the packer of ``ask`` writes is, token by token, what nano was trained on."""
    question = Question("describe", "What is in this video?", "a red star")
    trained = pack_questions(stamps, [question], NANO.tokens_per_image, tokenizer)
    answer = len(tokenizer.encode(" a red star").ids)
    checkpoint = open_checkpoint("nano")
    metadata = VideoMetadata(96, 96, 2.0, kind=kind)  # type: ignore[arg-type]
    planned = PlannedFrames((0.0, 1.4)[: len(stamps) or 1], metadata)
    messages = [Message("user", (planned, question.text))]
    assert count_tokens(messages, checkpoint) == len(trained.token_ids) - answer
    batch = FrameBatch(
        np.zeros((len(planned), 96, 96, 3), np.uint8), planned.pts_seconds, metadata, "official"
    )
    prompt = pack_prompt([Message("user", (batch, question.text))], checkpoint)
    assert list(prompt.token_ids) == trained.token_ids[:-answer]


def test_videos_grow_to_fifty_frames() -> None:
    options = TrainOptions(minutes=10)
    early = {Course("answer", 130, step).frames(options) for step in range(300)}
    late = {Course("answer", 550, step).frames(options) for step in range(300)}
    assert max(early) <= 12
    assert max(late) == 50
    assert 1 in early & late


def test_an_untrained_network_fails_the_examination(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    scores = examine(SmolVLM(NANO), tokenizer, seed=0, videos=16, frame_counts=(4,))
    assert scores["all"] == 0.0


def test_rates_warm_up_and_fall_in_both_stages() -> None:
    options = TrainOptions(minutes=1)
    rates = [
        Course(stage, elapsed, step).rate(options)
        for stage, elapsed, step in (
            ("see", 0, 0),
            ("see", 6, 100),
            ("see", 11.9, 300),
            ("answer", 20, 100),
            ("answer", 59, 500),
        )
    ]
    assert max(rates[0], rates[2], rates[4]) < 0.1
    assert rates[1] == rates[3] == 1.0


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """As in every process of a training; two threads wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_one_thread")
def test_the_loss_falls_by_half(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, TrainOptions(minutes=10, seed=3), 0, 1, lambda _: None)
    losses = [trainer.step() for _ in range(24)]
    assert sum(losses[-3:]) < sum(losses[:3]) / 2


@pytest.mark.slow
def test_a_course_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Two processes, stopped by the end of their time, then given more of it."""

    def train(minutes: float, seed: int = 3) -> dict[str, int]:
        options = TrainOptions(
            minutes=minutes, processes=min(2, usable_cores()), seed=seed, examine_videos=8
        )
        folder = train_nano(tmp_path, options, lambda _: None)
        assert open_checkpoint(str(folder)).layout == "nano"
        facts = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        return dict(facts["steps"])

    before = train(minutes=0.15)
    for minutes in (0.3, 1.0, 5.0):  # a busy machine may need more than twice the time for a step
        after = train(minutes)
        if after["answer"] > before["answer"]:
            break
    assert before["see"] == after["see"] > 0
    assert after["answer"] > before["answer"] > 0
    with pytest.raises(UsageError, match="--seed 3"):
        train(minutes, seed=4)


def test_more_processes_than_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="999 processes"):
        train_nano(tmp_path / "run", TrainOptions(processes=999), lambda _: None)
    assert not (tmp_path / "run").exists()


def test_news_is_told_and_kept(tmp_path: Path) -> None:
    told: list[TrainProgress] = []
    options = TrainOptions(minutes=0.1, processes=1, examine_minutes=0.02, examine_videos=8)
    train_nano(tmp_path, options, told.append)
    lines = (tmp_path / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    curve = [json.loads(line) for line in lines]
    assert [point["step"] for point in curve] == [news.step for news in told]
    assert any(news.scores for news in told)
