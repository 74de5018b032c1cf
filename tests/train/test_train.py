"""The training recipe: labels, masks and targets of batches, the schedule, the loss, resuming."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from support.record_schemas import validate_line
from support.stepclock import StepClock
from tokenizers import Tokenizer

from smolvideo.engines.devices import available_cores
from smolvideo.errors import UsageError
from smolvideo.evals.protocol import format_question
from smolvideo.frames import FrameBatch, FramePlan, VideoMetadata
from smolvideo.models import open_checkpoint
from smolvideo.network import SmolVLM
from smolvideo.prompt import Message, count_tokens, pack_prompt
from smolvideo.train.exam.evaluate import conversation
from smolvideo.train.nano import Trainer, _rows_loss, train_nano
from smolvideo.train.nano_config import NANO, SPECIAL_TOKENS, new_tokenizer, special_id
from smolvideo.train.packing import pack_questions, text_prefix, video_prefix
from smolvideo.train.question_batches import (
    evaluate,
    make_text_batch,
    make_video_batch,
    selection_score,
)
from smolvideo.train.schedule import (
    CHOICE_FORMS,
    DRILLS_PER_ROW,
    EARLY_MIX,
    LATE_MIX,
    STAGE_ENDS,
    TEXT_STEP_INTERVAL,
    QuestionMix,
    TrainOptions,
    TrainProgress,
    TrainState,
)
from smolvideo.train.vision_pretraining import (
    GLYPHS,
    OBJECT_CLASSES,
    PATCH_LABELS,
    TOKEN_LABELS,
    TOKEN_NORM,
    TrainableNano,
    center_connector,
    make_labelled_images,
)
from smolvideo.train.world.question import Question

SMALL: dict[str, Any] = {
    "pictures_per_step": 16,
    "frames_per_step": 12,
    "examine_videos": 3,
    "examine_frames": (2,),
}
"""Options of short trainings, for tests in which sizes of steps and evaluations do not matter."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Return one trained tokenizer for all tests; training is deterministic."""
    return Tokenizer.from_str(new_tokenizer())


def test_tokenizer_has_every_byte_and_single_digits_except_seconds(tokenizer: Tokenizer) -> None:
    for text in ("Où est l'étoile ⭐?", "\x00\x1b[31m", "12:34", "a red circle"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.encode("00:15").tokens == ["0", "0", ":15"]
    assert tokenizer.encode(" 1:02:59").tokens[1:] == ["1", ":02", ":59"]
    assert tokenizer.encode("15").tokens == ["1", "5"]
    assert len(tokenizer.get_vocab()) <= NANO.text.vocab_size
    assert [tokenizer.token_to_id(name) for name in SPECIAL_TOKENS] == list(range(7))


def test_image_labels_equal_the_rendered_scene() -> None:
    labels = make_labelled_images(Random(0), 64, NANO)
    assert labels.pixels.shape == (64, 3, 96, 96)
    assert labels.present.shape == (64, NANO.tokens_per_image, len(TOKEN_LABELS))
    assert (labels.radii > 0)[..., : len(OBJECT_CLASSES)].equal(
        labels.present[..., : len(OBJECT_CLASSES)] > 0
    )
    # An object or text with its centre in a cell also covers patches there.
    written = 0
    for picture in range(64):
        on_patches = {PATCH_LABELS[label] for label in labels.patches[picture].tolist()}
        in_cells = {TOKEN_LABELS[label] for label in labels.present[picture].nonzero()[:, 1]}
        assert on_patches & set(OBJECT_CLASSES) == in_cells & set(OBJECT_CLASSES)
        text = in_cells - set(OBJECT_CLASSES)
        letters = "".join(label.split()[-1] for label in text)
        assert on_patches & set(GLYPHS) <= set(letters)
        assert bool(on_patches & set(GLYPHS)) == bool(text)
        written += bool(text)
    assert 5 < written < 40


def test_mask_limits_questions_to_the_frames_and_themselves(tokenizer: Tokenizer) -> None:
    batch = make_video_batch(
        Random(0), videos=2, frames=3, asking=QuestionMix(4), network=NANO, tokenizer=tokenizer
    )
    sees = batch.rows.mask(torch.float32)[:, 0] == 0
    blocks = batch.rows.segment_ids
    for row in range(2):
        for token in range(blocks.shape[1]):
            seen = blocks[row][sees[row, token]]
            assert set(seen.tolist()) <= {0, int(blocks[row, token])}
            assert not sees[row, token, token + 1 :].any()


def test_targets_are_answers_and_end_of_turn(tokenizer: Tokenizer) -> None:
    question = Question("colour", "What colour is the star?", "red")
    front = video_prefix(["00:00", "00:01"], 4, tokenizer)
    row = pack_questions(front, [question, question], tokenizer)
    aimed = [target for target in row.targets if target != -100]
    answer = [*tokenizer.encode(" red").ids, tokenizer.token_to_id("<end_of_utterance>")]
    assert aimed == answer * 2
    first = row.segment_ids.index(1)
    second = row.segment_ids.index(2)
    assert row.positions[first] == row.positions[second] == first


@pytest.mark.parametrize(("kind", "stamps"), [("video", ["00:00", "00:01"]), ("image", [])])
def test_training_rows_equal_the_prompts_of_ask(kind: str, stamps: list[str]) -> None:
    """The packer of ``ask`` gives, token by token, the rows that nano is trained on."""
    tokenizer = open_checkpoint("nano").tokenizer
    question = Question("describe", "What is in this video?", "a red star")
    front = video_prefix(stamps, NANO.tokens_per_image, tokenizer)
    trained = pack_questions(front, [question], tokenizer)
    answer = len(tokenizer.encode(" a red star").ids)
    checkpoint = open_checkpoint("nano")
    metadata = VideoMetadata(96, 96, 2.0, kind=kind)  # type: ignore[arg-type]
    planned = FramePlan((0.0, 1.4)[: len(stamps) or 1], metadata)
    messages = [Message("user", (planned, question.text))]
    assert count_tokens(messages, checkpoint) == len(trained.token_ids) - answer
    batch = FrameBatch(
        np.zeros((len(planned), 96, 96, 3), np.uint8), planned.pts_seconds, metadata, "official"
    )
    prompt = pack_prompt([Message("user", (batch, question.text))], checkpoint)
    assert list(prompt.token_ids) == trained.token_ids[:-answer]


@pytest.mark.parametrize(
    "question",
    [
        Question(
            "subtitles", "What colour is Mia?", "red", subtitles="00:01 This is Mia, the star."
        ),
        Question(
            "follow-up",
            "Where is it?",
            "top",
            history=(Question("shape", "What is the red thing?", "star"),),
        ),
        Question(
            "choice",
            "Which?\n- A) a star\n- B) a cross\n\n\nNote: one letter.",
            "A",
            options=("a star", "a cross"),
            open_form=Question("shape", "Which?", "a star"),
        ),
    ],
    ids=lambda question: question.type,
)
def test_training_rows_equal_packed_conversations(question: Question) -> None:
    tokenizer = open_checkpoint("nano").tokenizer
    front = video_prefix(["00:00"], NANO.tokens_per_image, tokenizer)
    trained = pack_questions(front, [question], tokenizer)
    answer = len(tokenizer.encode(f" {question.response}").ids)
    metadata = VideoMetadata(96, 96, 2.0, kind="video")
    images = np.zeros((1, 96, 96, 3), np.uint8)
    messages = conversation(FrameBatch(images, (0.0,), metadata, "official"), question)
    prompt = pack_prompt(messages, open_checkpoint("nano"))
    assert list(prompt.token_ids) == trained.token_ids[:-answer]
    # The targets are every answer of the conversation, and nothing else.
    answers = [turn.response for turn in (*question.history, question)]
    end = tokenizer.token_to_id("<end_of_utterance>")
    aimed = [target for target in trained.targets if target != -100]
    assert aimed == [id for text in answers for id in [*tokenizer.encode(f" {text}").ids, end]]
    assert [weight > 0 for weight in trained.weights] == [t != -100 for t in trained.targets]


def test_training_rows_equal_eval_prompts_with_options() -> None:
    """An instruction before the frames is at the start of the whole row."""
    checkpoint = open_checkpoint("nano")
    asking = QuestionMix(1, choices=1, prompt_name="smolvlm")
    asked = format_question("smolvlm", "cinepile", "Which?", ("a star", "a cross"), None)
    assert asking.instruction == asked.instruction != ""
    assert QuestionMix(1, prompt_name="smolvlm").instruction == ""
    front = video_prefix(["00:00"], NANO.tokens_per_image, checkpoint.tokenizer, asking.instruction)
    opened = Question("shape", "Which?", "a cross")
    options = ("a star", "a cross")
    question = Question("choice", asked.text, "B", options=options, open_form=opened)
    trained = pack_questions(front, [question], checkpoint.tokenizer)
    answer = len(checkpoint.tokenizer.encode(f" {question.response}").ids)
    metadata = VideoMetadata(96, 96, 2.0, kind="video")
    batch = FrameBatch(np.zeros((1, 96, 96, 3), np.uint8), (0.0,), metadata, "official")
    message = Message("user", (batch, asked.text), preamble=asked.instruction)
    assert list(pack_prompt([message], checkpoint).token_ids) == trained.token_ids[:-answer]


def test_video_batches_follow_the_question_mix(tokenizer: Tokenizer) -> None:
    batch = make_video_batch(
        Random(0),
        videos=6,
        frames=8,
        asking=QuestionMix(8, choices=2, text_exercises=1),
        network=NANO,
        tokenizer=tokenizer,
    )
    asked = [question.type for row in batch.rows.questions for question in row]
    assert asked.count("choice") == 2 * 6
    assert len(asked) <= 8 * 6
    assert len(batch.frames) == len(batch.rows.questions) > 6
    assert len({question.answer for row in batch.rows.questions for question in row}) > 10


def test_rows_of_few_questions_give_the_loss_of_one_row(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    student = TrainableNano(NANO)
    losses, lengths = [], []
    for limit in (60, 10_000):
        monkeypatch.setattr("smolvideo.train.question_batches.MIN_ROW_TOKENS", limit)
        batch = make_video_batch(
            Random(5), videos=2, frames=3, asking=LATE_MIX, network=NANO, tokenizer=tokenizer
        )
        features = student.network.encode_images(batch.pixels)[batch.frames].flatten(0, 2)
        image = special_id(tokenizer, "<image>")
        vectors = student.network.embed_inputs(batch.rows.token_ids, features, image)
        losses.append(_rows_loss(student, vectors, batch.rows).item())
        lengths.append(batch.rows.token_ids.shape[1])
    assert lengths[0] < lengths[1] / 2
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("earlier", [0.0, 1.0])
def test_follow_up_questions_come_after_turns_of_any_type(
    tokenizer: Tokenizer, earlier: float
) -> None:
    batch = make_video_batch(
        Random(0),
        videos=12,
        frames=6,
        asking=QuestionMix(8, follow_up_probability=earlier),
        network=NANO,
        tokenizer=tokenizer,
    )
    asked = [question for row in batch.rows.questions for question in row]
    apart = [question for question in asked if question.type != "follow-up"]
    assert {bool(question.history) for question in apart} == {earlier > 0}
    # A follow-up comes directly after the turn that it refers to.
    follow_ups = [question for question in asked if question.type == "follow-up"]
    assert follow_ups
    assert all((len(question.history) > 1) is (earlier > 0) for question in follow_ups)
    if earlier:
        assert {len(question.history) for question in apart} == {1, 2}
        assert len({turn.answer for q in apart for turn in q.history}) > 20
        bare = [[turn.text.lower().rstrip("?.") for turn in q.history] for q in apart]
        assert not any(
            q.text.lower().rstrip("?.") in told for q, told in zip(apart, bare, strict=True)
        )


def test_exercises_are_text_only_rows(tokenizer: Tokenizer) -> None:
    rows = make_text_batch(Random(0), 8, tokenizer)
    front = text_prefix(tokenizer).token_ids
    assert all(row[: len(front)].tolist() == front for row in rows.token_ids)
    assert tokenizer.token_to_id("<image>") not in rows.token_ids
    assert [len(row) for row in rows.questions] == [DRILLS_PER_ROW] * 8
    assert torch.equal(rows.targets >= 0, rows.weights > 0)


@pytest.mark.parametrize("trained", [True, False])
def test_centered_image_tokens_keep_their_differences(trained: bool) -> None:
    torch.manual_seed(0)
    network = SmolVLM(NANO)
    if trained:
        with torch.no_grad():
            network.model.vision_model.post_layernorm.bias.uniform_(0.1, 1.0)
    pictures = make_labelled_images(Random(0), 48, NANO).pixels

    def tokens() -> torch.Tensor:
        with torch.no_grad():
            return network.model.connector(network.model.vision_model(pictures)).flatten(0, 1)

    before = tokens()
    center_connector(network, pictures)
    after = tokens()
    assert bool(after.mean(0).norm() < 1e-3) is trained
    apart, was_apart = after - after.mean(0), before - before.mean(0)
    assert apart.norm(dim=-1).mean().item() == pytest.approx(TOKEN_NORM, rel=1e-3)
    assert torch.allclose(apart / apart.norm(), was_apart / was_apart.norm(), atol=1e-4)


def test_each_stage_trains_its_own_parameters(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, TrainOptions(minutes=10), 0, 1, lambda _: None)
    parts = {
        "vision": trainer.trainable.network.model.vision_model,
        "connector": trainer.trainable.network.model.connector,
        "decoder": trainer.trainable.network.model.text_model,
        "heads": trainer.trainable.heads,
        "letters": trainer.trainable.letter_probe,
    }
    trained = {}
    for stage in STAGE_ENDS:
        trainer._begin(stage)
        trained[stage] = {
            name for name, part in parts.items() if next(part.parameters()).requires_grad
        }
    assert trained == {
        "see": {"vision", "connector", "heads"},
        "read": {"vision", "connector", "heads"},
        "answer": {"connector", "decoder", "letters"},
    }


def test_resumed_training_keeps_its_weights_and_tokenizer(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, TrainOptions(), 0, 1, lambda _: None)
    with torch.no_grad():
        for parameter in trainer.trainable.parameters():
            parameter.add_(1)
    trainer._save()
    other = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    other.add_tokens(["zebra"])
    other.save(str(tmp_path / "tokenizer.json"))
    again = Trainer(tmp_path, TrainOptions(), 0, 1, lambda _: None)
    assert again.tokenizer.token_to_id("zebra") is not None
    weights, resumed = (one.trainable.state_dict() for one in (trainer, again))
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_every_step_has_a_batch_size_and_a_prompt_form() -> None:
    options = TrainOptions(minutes=10)
    steps = [TrainState("answer", 400, step) for step in range(200)]
    assert {course.question_mix(options).prompt_name for course in steps} == set(CHOICE_FORMS)
    assert {course.question_mix(options).choices for course in steps} == {LATE_MIX.choices}
    assert all(2 <= course.videos(options) <= 6 for course in steps)
    early = [TrainState("answer", 600 * STAGE_ENDS["read"] + 1, step) for step in range(200)]
    assert {course.question_mix(options).choices for course in early} == {0}


def test_single_frame_questions_come_first_in_training() -> None:
    options = TrainOptions(minutes=10)
    first, later = ([TrainState("answer", since, n) for n in range(1, 200)] for since in (100, 550))
    assert {course.question_mix(options) for course in first} == {EARLY_MIX}
    assert max(course.frames(options) for course in first) == 8
    assert max(course.frames(options) for course in later) == 50
    assert {course.question_mix(options).single_frame_questions for course in later} == {
        LATE_MIX.single_frame_questions
    }
    assert LATE_MIX.single_frame_questions < EARLY_MIX.single_frame_questions


def test_text_exercises_have_their_own_steps_late_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(minutes=10)
    at_first, later = ([TrainState("answer", since, n) for n in range(30)] for since in (100, 550))
    assert not any(course.is_text_step(options) for course in at_first)
    assert not any(TrainState("see", 10, step).is_text_step(options) for step in range(30))
    own = {course.step for course in later if course.is_text_step(options)}
    assert len(own) == 30 / TEXT_STEP_INTERVAL
    trainer = Trainer(tmp_path, options, 0, 1, lambda _: None)
    trainer.course = TrainState("answer", 550, min(own))
    trainer.optimizer = trainer._optimizer()
    monkeypatch.setattr(trainer, "_answer_loss", None)  # not called
    assert trainer._loss(Random(0)).requires_grad


def test_evaluation_after_text_exercises_waits_for_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(minutes=10)
    trainer = Trainer(tmp_path, options, 0, 1, lambda _: None)
    trainer.course = TrainState("answer", 550, TEXT_STEP_INTERVAL - 1)
    reported: list[float] = []

    def step() -> float:
        trainer.course.step += 1
        trainer.course.elapsed += 20 if trainer.course.step % TEXT_STEP_INTERVAL else 0
        return 0.5

    monkeypatch.setattr(trainer, "step", step)
    monkeypatch.setattr(trainer, "_should_evaluate", lambda: True)
    monkeypatch.setattr(trainer, "_report", reported.append)
    for finish in ("_save", "_take_best", "_metadata"):
        monkeypatch.setattr(trainer, finish, dict)
    trainer.run()
    assert reported
    assert set(reported) == {0.5}


def test_slowly_learned_types_are_sampled_more_often(tokenizer: Tokenizer) -> None:
    def described(favoured: float) -> int:
        batch = make_video_batch(
            Random(0),
            videos=16,
            frames=4,
            asking=QuestionMix(5, hard_type_probability=favoured),
            network=NANO,
            tokenizer=tokenizer,
        )
        return sum(any(q.type == "describe" for q in row) for row in batch.rows.questions)

    assert described(1.0) == 16
    assert described(0.0) < 12


def test_selection_score_averages_over_types() -> None:
    assert selection_score({"all": 0.1, "colour": 1.0, "text": 0.0}) == 0.5
    assert selection_score({"all": 0.1, "colour": 1.0, "choice": 0.2}) == pytest.approx(0.4)


def test_best_weights_are_exported(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, TrainOptions(minutes=10, **SMALL), 0, 1, lambda _: None)
    trainer._begin("answer")
    best = {name: part.clone() for name, part in trainer.trainable.network.state_dict().items()}
    trainer._save_if_best({"all": 0.9, "colour": 0.9})
    with torch.no_grad():
        for parameter in trainer.trainable.network.parameters():
            parameter.zero_()
    trainer._save_if_best({"all": 0.5, "colour": 0.5})
    trainer._take_best()
    kept = trainer.trainable.network.state_dict()
    assert all(torch.equal(kept[name], best[name]) for name in best)


def test_training_videos_grow_to_fifty_frames() -> None:
    options = TrainOptions(minutes=10)
    early = {
        TrainState("answer", 600 * STAGE_ENDS["read"] + 1, step).frames(options)
        for step in range(300)
    }
    late = {TrainState("answer", 550, step).frames(options) for step in range(300)}
    assert max(early) <= 12
    assert max(late) == 50
    assert 1 in late


def test_untrained_network_scores_zero(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    scores = evaluate(SmolVLM(NANO), tokenizer, seed=0, videos=8, frame_counts=(4,))
    assert scores["all"] == 0.0


def test_learning_rate_warms_up_and_decays() -> None:
    options = TrainOptions(minutes=1)
    first, level = TrainState("see"), TrainState("see", 60 * 0.03, 100)
    last = TrainState("see", 60 * STAGE_ENDS["see"] - 0.1, 300)
    assert max(first.lr_scale(options), last.lr_scale(options)) < 0.1
    assert level.lr_scale(options) == 1.0
    assert TrainState("answer", 24, 100).lr_scale(options) == 1.0
    assert TrainState("answer", 59, 500).lr_scale(options) < 0.1


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Use one thread, as training processes do; two threads wait for each other on a busy
    machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_one_thread")
def test_the_loss_falls_by_half(tmp_path: Path) -> None:
    # A simulated quarter second per step: real time would make the learning rate decay.
    options, clock = TrainOptions(minutes=10, seed=3, **SMALL), StepClock(0.25)
    trainer = Trainer(tmp_path, options, 0, 1, lambda _: None, clock)
    losses = [trainer.step() for _ in range(20)]
    assert sum(losses[-3:]) < sum(losses[:3]) / 2


def steps_of(folder: Path, processes: int) -> dict[str, int]:
    """Return the steps of each stage of the training in ``folder``."""
    assert open_checkpoint(str(folder / "nano")).layout == "nano"
    metadata = (folder / "nano" / "training.json").read_text(encoding="utf-8")
    facts = validate_line("training", metadata)
    assert facts["processes"] == processes
    return dict(facts["steps"])


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainProgress]]:
    """A training in one process until its time is up, three simulated seconds per step, and its
    progress.
    """
    folder, told = tmp_path_factory.mktemp("training"), list[TrainProgress]()
    options = TrainOptions(minutes=0.1, processes=1, seed=3, examine_minutes=0.02, **SMALL)
    train_nano(folder, options, told.append, clock=StepClock(3.0))
    return folder, told


@pytest.mark.slow
def test_a_course_goes_on_where_it_stopped(
    begun: tuple[Path, list[TrainProgress]], tmp_path: Path
) -> None:
    """Two processes go on with what one has begun."""
    folder = shutil.copytree(begun[0], tmp_path / "training")
    before, two = steps_of(folder, 1), min(2, available_cores())
    options = TrainOptions(minutes=0.15, processes=two, seed=3, **SMALL)
    train_nano(folder, options, lambda _: None, clock=StepClock(3.0))
    after = steps_of(folder, two)
    assert before["see"] == after["see"] > 0
    assert before["answer"] > 0
    assert sum(before.values()) == 2
    assert sum(after.values()) == 3
    with pytest.raises(UsageError, match="--seed 3"):
        train_nano(folder, replace(options, processes=1, seed=4), lambda _: None)


def test_all_processes_start_with_the_same_weights_and_tokenizer(tmp_path: Path) -> None:
    """And only the first of them writes."""
    trainers = []
    for rank in (1, 0):
        assert not (tmp_path / "tokenizer.json").exists()
        trainers.append(Trainer(tmp_path, TrainOptions(seed=3), rank, 2, lambda _: None))
    one, other = trainers
    assert one.tokenizer.to_str() == other.tokenizer.to_str()
    weights, others = (trainer.trainable.state_dict() for trainer in trainers)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_more_training_processes_than_cores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="999 processes"):
        train_nano(tmp_path / "run", TrainOptions(processes=999), lambda _: None)
    assert not (tmp_path / "run").exists()


def test_training_progress_is_reported_and_saved(begun: tuple[Path, list[TrainProgress]]) -> None:
    folder, told = begun
    lines = (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    curve = [validate_line("training-curve", line) for line in lines]
    assert [point["step"] for point in curve] == [news.step for news in told]
    assert any(news.scores for news in told)
