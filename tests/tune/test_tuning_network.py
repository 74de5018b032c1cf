"""What is trained, and on what: the traps in which a training looks like success."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from smolvideo.engines import NativeEngine, load_engine
from smolvideo.models import Checkpoint
from smolvideo.tune.items import Items
from smolvideo.tune.network import LORA_TARGETS, TuningNetwork, pad, untrained_rows
from smolvideo.tune.options import TuneOptions
from smolvideo.tune.samples import IGNORED, Sample, SampleSet
from smolvideo.tune.scores import ALL, score_samples
from smolvideo.tune.training import step_seed


@pytest.fixture(scope="module")
def network(nano: Checkpoint, samples: SampleSet, options: TuneOptions) -> TuningNetwork:
    rows = untrained_rows(nano, samples.of("train"))
    with_rows = replace(options, parts=("decoder", "rows"), rank=2)
    return TuningNetwork(nano, with_rows, samples.features, dtype="float32", new_rows=rows)


def loss_of(network: TuningNetwork, samples: list[Sample]) -> torch.Tensor:
    logits, targets, _ = network.logits(samples)
    return F.cross_entropy(logits, targets)


def test_targets_are_the_answer_and_the_end_of_the_turn(
    samples: SampleSet, items: Items, nano: Checkpoint
) -> None:
    by_line = {item.line.number: item.line for item in items.items}
    end = nano.special_tokens[nano.end_of_turn_token]
    for sample in samples.samples:
        counted = [target for target in sample.targets if target != IGNORED]
        assert counted[-1] == end
        text = nano.tokenizer.decode(counted[:-1], skip_special_tokens=False)
        assert text == f" {by_line[sample.line].answer}"
        # Image tokens and the template have none, and nothing stands between the targets.
        first = sample.targets.index(counted[0])
        assert list(sample.targets[first:]) == counted
        assert sample.token_ids[first + 1 :] == tuple(counted[:-1])
        assert sample.token_ids.count(nano.image_token_id) == len(sample.frames) * 4


def test_samples_have_the_prompts_and_features_of_ask(
    samples: SampleSet, items: Items, nano: Checkpoint, options: TuneOptions
) -> None:
    from smolvideo.pipeline import prepare
    from smolvideo.sampling import FrameSampling

    item = items.items[0]
    (sample,) = [one for one in samples.samples if one.line == item.line.number]
    prepared = prepare(
        nano,
        [item.media[0].source],
        item.line.question,
        sampling=FrameSampling(max_frames=options.max_frames),
    )
    prompt = prepared.prompt
    assert sample.token_ids[: len(prompt.token_ids)] == prompt.token_ids
    with load_engine("nano") as engine:
        assert isinstance(engine, NativeEngine)
        features = engine.encode(prompt.images)
    assert torch.equal(samples.features[list(sample.frames)], features)


@torch.no_grad()
def test_features_reach_the_loss(network: TuningNetwork, samples: SampleSet) -> None:
    train = samples.of("train")[:2]
    network.train(training=False)
    seeing = float(loss_of(network, train))
    kept = network.features
    try:
        network.features = torch.full_like(kept, float("nan"))
        assert torch.isnan(loss_of(network, train))
        network.features = kept.flip(0)
        assert float(loss_of(network, train)) != seeing
    finally:
        network.features = kept


def test_only_the_decoder_is_adapted_and_no_tower_is_in_memory(network: TuningNetwork) -> None:
    model = network.network.model
    assert model.vision_model is None
    assert model.connector is None
    adapted = [name for name in network.trainable if "lora_" in name]
    assert len(adapted) == 6 * 7 * 2
    assert all(name.startswith("model.text_model.layers.") for name in adapted)
    others = set(network.trainable) - set(adapted)
    assert [name for name in others if "token_adapter" not in name] == []


def test_targets_of_lora_are_whole_names() -> None:
    import re

    vision = "model.vision_model.encoder.layers.0.self_attn.q_proj"
    assert not re.fullmatch(LORA_TARGETS["decoder"], vision)
    assert re.fullmatch(LORA_TARGETS["vision"], vision)
    assert not re.fullmatch(LORA_TARGETS["vision"], "model.vision_model.post_layernorm")
    assert re.fullmatch(LORA_TARGETS["decoder"], "model.text_model.layers.11.mlp.up_proj")
    assert not re.fullmatch(LORA_TARGETS["decoder"], "lm_head")


def test_logits_are_those_of_tokens_with_targets(
    network: TuningNetwork, samples: SampleSet
) -> None:
    train = samples.of("train")[:3]
    logits, targets, owners = network.logits(train)
    assert len(logits) == sum(sample.num_targets for sample in train)
    assert logits.dtype == torch.float32
    for place, sample in enumerate(train):
        mine = [target for target in sample.targets if target != IGNORED]
        assert targets[owners == place].tolist() == mine


@torch.no_grad()
def test_padding_changes_nothing(network: TuningNetwork, samples: SampleSet) -> None:
    network.train(training=False)
    short, long = sorted(samples.samples, key=lambda one: len(one.token_ids))[
        :: len(samples.samples) - 1
    ]
    batch = pad([short, long], pad_token_id=0)
    assert batch.token_ids[0, : len(short.token_ids)].tolist() == list(short.token_ids)
    together, _, owners = network.logits([short, long])
    alone, _, _ = network.logits([short])
    torch.testing.assert_close(together[owners == 0], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_untrained_adapter_is_the_base_and_base_leaves_the_adapter_out(
    nano: Checkpoint, network: TuningNetwork, samples: SampleSet, options: TuneOptions
) -> None:
    train = samples.of("train")[:2]
    network.train(training=False)
    plain = TuningNetwork(nano, replace(options, method="full"), samples.features, dtype="float32")
    plain.train(training=False)
    expected = plain.logits(train)[0]
    torch.testing.assert_close(network.logits(train)[0], expected, atol=1e-4, rtol=1e-4)
    changed = [parameter.clone() for parameter in network.trainable.values()]
    try:
        for parameter in network.trainable.values():
            parameter.add_(0.05)
        assert float((network.logits(train)[0] - expected).abs().max()) > 0.01
        with network.base():
            torch.testing.assert_close(network.logits(train)[0], expected, atol=1e-4, rtol=1e-4)
    finally:
        for parameter, before in zip(network.trainable.values(), changed, strict=True):
            parameter.copy_(before)


def test_native_engine_gives_the_same_logits(
    network: TuningNetwork, samples: SampleSet, nano: Checkpoint
) -> None:
    """Training sees what answers will be computed from."""
    sample = samples.of("train")[0]
    network.train(training=False)
    with torch.no_grad(), load_engine("nano", dtype="float32") as engine:
        assert isinstance(engine, NativeEngine)
        ids = torch.tensor([sample.token_ids])
        vectors = engine.network.embed_inputs(
            ids, samples.features[list(sample.frames)], nano.image_token_id
        )
        cache = engine.network.new_cache(len(sample.token_ids))
        theirs = engine.network.prefill(vectors, cache, last=sample.num_targets)
        ours = network.logits([sample])[0]
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)


def test_adapters_are_float32_over_bfloat16_weights(
    nano: Checkpoint, samples: SampleSet, options: TuneOptions
) -> None:
    network = TuningNetwork(nano, options, samples.features, dtype="bfloat16")
    assert {parameter.dtype for parameter in network.trainable.values()} == {torch.float32}
    assert network.network.lm_head.weight.dtype == torch.bfloat16
    loss = loss_of(network, samples.of("train")[:1])
    assert loss.dtype == torch.float32
    loss.backward()
    gradients = [parameter.grad for parameter in network.trainable.values()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)


def test_checkpointing_gives_the_same_gradients(
    nano: Checkpoint, samples: SampleSet, options: TuneOptions
) -> None:
    found = []
    for checkpointing in (False, True):
        chosen = replace(options, checkpointing=checkpointing)
        network = TuningNetwork(nano, chosen, samples.features, dtype="float32")
        network.train(training=True)
        torch.manual_seed(step_seed(0, 0))  # of dropout
        loss_of(network, samples.of("train")[:2]).backward()
        found.append({name: one.grad for name, one in network.trainable.items()})
    for name, gradient in found[0].items():
        assert gradient is not None
        assert found[1][name] is not None
        torch.testing.assert_close(found[1][name], gradient, atol=1e-5, rtol=1e-4)


def test_trained_connector_gets_gradients_from_pixels(
    nano: Checkpoint, samples: SampleSet, options: TuneOptions
) -> None:
    eyes = replace(options, parts=("decoder", "connector"))
    assert eyes.trains_eyes
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(
            0, 255, (len(samples.features), nano.image_size, nano.image_size, 3), np.uint8
        )
    )
    network = TuningNetwork(nano, eyes, pixels, dtype="float32")
    network.train(training=True)
    loss_of(network, samples.of("train")[:1]).backward()
    connector = [one for name, one in network.trainable.items() if ".connector." in name]
    assert len(connector) == 2
    assert any(bool((one.grad != 0).any()) for one in connector if one.grad is not None)


def test_new_words_are_rows_of_the_embedding(nano: Checkpoint, samples: SampleSet) -> None:
    rows = untrained_rows(nano, samples.samples)
    assert {" p", "k"} <= {nano.tokenizer.decode([row]) for row in rows}  # of pink
    assert len(rows) < 20
    known = nano.text_tokenizer.encode(" a red circle 12", add_special_tokens=False).ids
    assert not {*known} & {*rows}


def test_black_frames_are_seen(nano: Checkpoint) -> None:
    """transformers drops pictures of exact zeros; ours are centred at 127.5."""
    with load_engine("nano") as engine:
        assert isinstance(engine, NativeEngine)
        black = engine.encode(np.zeros((2, nano.image_size, nano.image_size, 3), np.uint8))
    assert black.shape[0] == 2
    assert bool(black.isfinite().all())


def test_grey_frames_answer_no_question(network: TuningNetwork, samples: SampleSet) -> None:
    scores = score_samples(network, samples.samples, grey_row=samples.grey_row)
    assert scores[ALL].count == len(samples.samples)
    assert scores[ALL].loss > score_samples(network, samples.samples)[ALL].loss


@pytest.mark.qlora
def test_only_the_decoder_is_in_four_bits(
    nano: Checkpoint, samples: SampleSet, options: TuneOptions
) -> None:
    """Names to skip are whole names: others skip nothing, and a list replaces the default."""
    bits = replace(options, method="qlora")
    network = TuningNetwork(nano, bits, samples.features, dtype="float32")
    kinds = {
        name: type(module).__name__
        for name, module in network.network.named_modules()
        if name.endswith("base_layer")
    }
    assert len(kinds) == 6 * 7
    assert set(kinds.values()) == {"Linear4bit"}
    # Weights that are not quantized keep their dtype, and adapters are as any other.
    assert network.network.lm_head.weight.dtype == torch.float32
    assert {parameter.dtype for parameter in network.trainable.values()} == {torch.float32}
    assert set(network.adapter_tensors()) == set(
        TuningNetwork(nano, options, samples.features, dtype="float32").adapter_tensors()
    )
    network.train(training=True)
    loss_of(network, samples.of("train")[:1]).backward()
    assert all(parameter.grad is not None for parameter in network.trainable.values())
