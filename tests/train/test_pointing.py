"""Attention supervision: pointers match the tokens of their rows, and heads learn to attend to
them.
"""

import math
import re
from collections import Counter
from random import Random

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from smolvideo.evals.item import LETTERS
from smolvideo.evals.protocol.prompts import PromptName
from smolvideo.models import open_checkpoint
from smolvideo.network import SmolVLM, decoder
from smolvideo.train.attention_supervision import HEADS, LetterProbe, forward_supervised
from smolvideo.train.nano_config import NANO
from smolvideo.train.packing import PackedBatch, collate, pack_questions, video_prefix
from smolvideo.train.question_batches import make_text_batch, make_video_batch
from smolvideo.train.schedule import QuestionMix
from smolvideo.train.world.question import Question


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_checkpoint("nano").tokenizer


@pytest.mark.parametrize("form", ["plain", "smolvlm", "official", "lmms-eval"])
def test_pointers_mark_letters_and_time_stamps(form: PromptName, tokenizer: Tokenizer) -> None:
    batch = make_video_batch(
        Random(4),
        videos=12,
        frames=9,
        asking=QuestionMix(
            10,
            choices=3,
            text_exercises=4,
            prompt_name=form,
            single_frame_questions=3,
            follow_up_probability=0.3,
        ),
        network=NANO,
        tokenizer=tokenizer,
    )
    seen = Counter[str]()
    rows = batch.rows
    for ids, targets, pointers, asked in zip(
        rows.token_ids.tolist(),
        rows.targets.tolist(),
        rows.pointers,
        rows.questions,
        strict=True,
    ):
        again = ""
        for look, at, to, letter in pointers:
            seen[look] += 1
            pointed = [ids[place] for places in to for place in places]
            if look == "letter of option":
                assert letter is not None
                assert tokenizer.decode(pointed).strip() == LETTERS[letter]
            elif look == "option of said":
                assert pointed == [ids[at]]
            elif look == "said before letter":
                assert letter is not None
                assert tokenizer.decode([ids[at]]) == ":"
                assert tokenizer.decode([targets[at]]).strip() == LETTERS[letter]
                assert ids[to[0].start + 1] == tokenizer.token_to_id("\u010a")
            elif look == "next of question":
                # At the start of a line a word has other tokens.
                there, here = (tokenizer.decode([id_]).strip() for id_ in (*pointed, targets[at]))
                assert here in there or there in here
                again += tokenizer.decode([targets[at]])
            elif look == "question":
                assert tokenizer.decode(pointed) in again
                assert re.search(r"\nT?(hat)?( is)?(:[^\n]*)?$", tokenizer.decode(ids[: at + 1]))
            else:
                stamps = {tokenizer.decode([ids[p] for p in places]).strip() for places in to}
                (stamp,) = stamps
                assert len(stamp) == len("00:00")
                said = tokenizer.decode(ids[:at] if look == "moment" else ids[at - 9 : at + 9])
                assert stamp in said
                # Whole frames only: the same number of image tokens for every time stamp.
                images = pointed.count(tokenizer.token_to_id("<image>"))
                assert images == NANO.tokens_per_image * len(to)
        # Answers with options repeat the question token by token.
        for question in asked:
            if question.open_form:
                assert f" {question.open_form.text}" in again
    assert set(seen) == set(HEADS)
    assert min(seen.values()) > 10


def test_option_words_point_at_their_own_tokens(tokenizer: Tokenizer) -> None:
    options = ("a red star", "a red cross", "a blue star")
    listing = "Which of them?\nA. a red star\nB. a red cross\nC. a blue star\n"
    opened = Question("mover", "Which of them?", "a blue star")
    question = Question("choice", listing, "C", options=options, open_form=opened)
    row = pack_questions(video_prefix(["00:00"], 4, tokenizer), [question], tokenizer)
    listed = [p for p in row.pointers if p.kind == "letter of option"]
    assert Counter(p.option_index for p in listed) == {0: 3, 1: 3, 2: 3}
    said = [p for p in row.pointers if p.kind == "option of said"]
    assert [p.key_spans[0].start for p in said] == [
        p.query_position for p in listed if p.option_index == 2
    ]
    words = [tokenizer.decode([row.token_ids[p.query_position]]) for p in said]
    assert words == [" a", " blue", " star"]


def test_words_outside_the_option_list_have_no_pointers(tokenizer: Tokenizer) -> None:
    front = video_prefix(["00:00"], 4, tokenizer)
    question = Question("choice", "A. a star\nC. a cross", "A", options=("a star", "a cross"))
    assert pack_questions(front, [question], tokenizer).pointers == []
    timed = Question("moment", "What is there at 00:00 and not at 00:01?", "a star")
    (pointer,) = pack_questions(front, [timed], tokenizer).pointers
    assert pointer.kind == "moment"
    both = video_prefix(["00:00", "00:01"], 4, tokenizer)
    assert pack_questions(both, [timed], tokenizer).pointers == []


def drilled(tokenizer: Tokenizer) -> PackedBatch:
    return make_text_batch(Random(5), 2, tokenizer)


def embedded(network: SmolVLM, rows: PackedBatch) -> Tensor:
    return network.model.text_model.embed_tokens(rows.token_ids)


def test_supervised_forward_equals_the_decoder_and_its_attention(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, rows = SmolVLM(NANO), drilled(tokenizer)
    reader = LetterProbe(NANO.text.hidden_size)
    text, vectors = network.model.text_model, embedded(network, rows)
    attended: list[Tensor] = []
    plainly = decoder.attention_reference

    def spied(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        keys = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
        attended.append(((q @ keys.mT) * q.shape[-1] ** -0.5 + mask).softmax(-1))
        return plainly(q, k, v, mask)

    monkeypatch.setattr(decoder, "attention_reference", spied)
    with torch.no_grad():
        hidden, astray = forward_supervised(text, reader, vectors, rows)
        plain = text(vectors, rows.positions, rows.mask(torch.float32))
    assert torch.equal(hidden, plain)
    expected = 0.0
    for look, heads in HEADS.items():
        for layer, head in heads:
            shares = [
                sum(attended[layer][row, head, at, p.start : p.stop].sum().item() for p in to)
                for row, pointers in enumerate(rows.pointers)
                for other, at, to, _ in pointers
                if other == look
            ]
            if shares:
                expected -= sum(math.log(share) for share in shares) / len(shares)
    # Three letter losses at chance level: with weights this small nothing is learned yet.
    assert astray.item() == pytest.approx(expected + 3 * math.log(5), rel=0.1)
    assert astray.item() > expected


def test_rows_without_pointers_have_no_loss(tokenizer: Tokenizer) -> None:
    network = SmolVLM(NANO)
    question = Question("colour", "What colour is the star?", "red")
    front = video_prefix(["00:00"], 4, tokenizer)
    rows = collate([pack_questions(front, [question], tokenizer)], [[question]])
    reader = LetterProbe(NANO.text.hidden_size)
    _, astray = forward_supervised(network.model.text_model, reader, embedded(network, rows), rows)
    assert astray.item() == 0.0


def test_supervised_heads_learn_to_attend_to_pointers(tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    network, rows = SmolVLM(NANO), drilled(tokenizer)
    reader = LetterProbe(NANO.text.hidden_size)
    text = network.model.text_model
    optimizer = torch.optim.Adam([*text.parameters(), *reader.parameters()], lr=0.002)
    losses = []
    for _ in range(8):
        _, astray = forward_supervised(text, reader, embedded(network, rows), rows)
        optimizer.zero_grad()
        astray.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(astray.item())
    assert losses[-1] < 0.8 * losses[0]
