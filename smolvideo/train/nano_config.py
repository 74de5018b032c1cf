"""nano before its training: tokenizer, configuration, initial weights; export for transformers."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from smolvideo.errors import ModelError, UsageError
from smolvideo.evals.protocol import format_question
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.models.json_files import read_json
from smolvideo.network import NetworkConfig, SmolVLM, TextConfig, VisionConfig
from smolvideo.train.schedule import CHOICE_FORMS
from smolvideo.train.world.grammar import load_grammar
from smolvideo.train.world.multiple_choice import OPTIONS, WITHOUT_CHOICE, with_options
from smolvideo.train.world.question import Question, informal
from smolvideo.train.world.questions import FrameClock, ask_about
from smolvideo.train.world.scene import BACKGROUNDS, COLOURS, SHAPES, WORDS, Scene
from smolvideo.train.world.scene_sampler import sample_scene
from smolvideo.train.world.worded_questions import ask_in_words

_CLOCK = FrameClock(tuple(moment / 9 for moment in range(10)), 60.0)


@cache
def known_words() -> tuple[str, ...]:
    """Return every word of the questions, answers and option lists, in lower case, sorted."""
    random = Random(0)
    asked = (
        question
        for number in range(2000)
        for question in _asked(sample_scene(random), random, number)
    )
    spoken = (f"{question.text} {question.subtitles or ''} {question.answer}" for question in asked)
    texts = chain(spoken, [format_question("plain", "cinepile", "", [""] * OPTIONS, None).text])
    return tuple(
        sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())})
    )


def _asked(scene: Scene, random: Random, number: int) -> list[Question]:
    """Return questions about the scene of this number; every eighth time those in the words of the
    grammar, too, without typing errors."""
    questions = ask_about(scene, random, _CLOCK)
    if number % 8 == 0:
        questions += ask_in_words(scene, random, _CLOCK, replace(load_grammar(), typos=0.0))
    return questions


def corpus() -> Iterator[str]:
    """Yield texts of random scenes, including the prompts of questions with options."""
    for scene_word in (*SHAPES, *COLOURS, *BACKGROUNDS):
        yield f" {scene_word} a {scene_word} an {scene_word}"
    for word in WORDS:
        yield from [f" {word} "] * 100
    random = Random(0)
    yield from ["User:", "Assistant:"] * 100
    for number in range(4000):
        scene = sample_scene(random)
        for question in _asked(scene, random, number):
            yield informal(random, question).text
            yield f" {question.answer}"
            if question.subtitles:
                yield question.subtitles
            if number % 20 == 0 and question.type not in WITHOUT_CHOICE:
                prompt = random.choice(CHOICE_FORMS)
                yield with_options(question, scene, random, _CLOCK, prompt).text


SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<fake_token_around_image>",
    "<global-img>",
    "<image>",
    "<end_of_utterance>",
)
"""The special tokens of SmolVLM2 that nano uses, in the order of their ids."""

VOCABULARY_SIZE = 832
SECONDS = tuple(f":{second:02}" for second in range(60))
"""The seconds of a time stamp are one token each: attention finds a frame by its time with one key
instead of three in a row."""
_STAMP_END = ":[0-5][0-9]"
_PRETOKENIZE_PATTERN = (
    rf"{_STAMP_END}|\p{{N}}|'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+"
    rf"| ?(?:(?!{_STAMP_END})[^\s\p{{L}}\p{{N}}])+|\s+(?!\S)|\s+"
)
"""GPT-2's pre-tokenization, but with single digits, and the seconds of a time stamp as one."""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train a tokenizer with all bytes as its alphabet: any text can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(SECONDS),
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _with_seconds(tokenizer)


@cache
def new_tokenizer() -> str:
    """Return the tokenizer of every new training, as JSON; cached, as training it takes seconds."""
    return train_tokenizer(corpus()).to_str()


def _with_seconds(tokenizer: Tokenizer) -> Tokenizer:
    """Add ``SECONDS`` to the vocabulary. Not as added tokens: those are reserved for text that
    questions may not contain, and are not matched in questions."""
    rules = json.loads(tokenizer.to_str())
    vocabulary = rules["model"]["vocab"]
    vocabulary.update({second: len(vocabulary) + n for n, second in enumerate(SECONDS)})
    # With `ignore_merges` a piece that is in the vocabulary is one token and needs no merges.
    rules["model"]["ignore_merges"] = True
    grown = Tokenizer.from_str(json.dumps(rules))
    grown.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRETOKENIZE_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return grown


def special_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of one of ``SPECIAL_TOKENS``."""
    token_id = tokenizer.token_to_id(name)
    if token_id is None:
        raise ValueError(f"{name} is no token of this tokenizer")
    return int(token_id)


NANO = NetworkConfig(
    vision=VisionConfig(
        # Eight patches a side: with a power of two transformers' position buckets are exact.
        image_size=96,
        patch_size=12,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=3,
    ),
    text=TextConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=256,
        intermediate_size=448,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        # 50 frames take about 400 tokens; the rest is for questions, history and more frames.
        max_position_embeddings=2048,
        rope_theta=10000.0,
    ),
    scale_factor=4,
    tie_word_embeddings=True,
)

TURN_END = "<end_of_utterance>"
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'text' %}{{': '}}{% else %}{{':'}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def config_json(network: NetworkConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return ``config.json`` with transformers' SmolVLM keys; ``smolvideo_layout`` is our own."""
    vision, text = network.vision, network.text
    pad, begin, end = (
        special_id(tokenizer, name) for name in ("<|im_end|>", "<|im_start|>", TURN_END)
    )
    return {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "smolvideo_layout": "nano",
        "image_token_id": special_id(tokenizer, "<image>"),
        "scale_factor": network.scale_factor,
        "tie_word_embeddings": network.tie_word_embeddings,
        "pad_token_id": pad,
        "dtype": "bfloat16",
        "vision_config": {
            "model_type": "smolvlm_vision",
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": "gelu_pytorch_tanh",
        },
        "text_config": {
            "model_type": "llama",
            "vocab_size": text.vocab_size,
            "hidden_size": text.hidden_size,
            "intermediate_size": text.intermediate_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "num_key_value_heads": text.num_key_value_heads,
            "head_dim": text.head_dim,
            "max_position_embeddings": text.max_position_embeddings,
            "rope_theta": text.rope_theta,
            "rms_norm_eps": text.rms_norm_eps,
            "hidden_act": "silu",
            "tie_word_embeddings": network.tie_word_embeddings,
            "bos_token_id": begin,
            "eos_token_id": end,
            "pad_token_id": pad,
        },
    }


def save_checkpoint(
    folder: Path, model: SmolVLM, tokenizer: Tokenizer, metadata: dict[str, Any]
) -> None:
    """Write the checkpoint: bfloat16 weights and the JSON files next to them.

    ``metadata`` becomes ``training.json``: how the weights were trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = model.config
    config = config_json(network, tokenizer)
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not (name == "lm_head.weight" and network.tie_word_embeddings)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # Not the tokenizer's own `save`: its errors do not tell a full disk from other causes.
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    ends = config["text_config"]
    size = network.vision.image_size
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "generation_config.json",
        {key: ends[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    _write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SmolVLMImageProcessor",
            "do_image_splitting": False,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "max_image_size": {"longest_edge": size},
            "size": {"longest_edge": size},
        },
    )
    _write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})
    _write_json(folder / "training.json", metadata)


def open_start(name: str) -> Checkpoint:
    """Open the checkpoint with which a training begins. Raises UsageError unless it is on this
    machine and has the shapes of nano."""
    hint = "`--from nano`, or the folder of a checkpoint that `train nano` has made"
    try:
        checkpoint = open_checkpoint(name, offline=True)
    except ModelError as error:
        raise UsageError(f"`--from {name}`: {error}", hint=hint) from error
    if NetworkConfig.from_json(read_json(checkpoint.folder / "config.json")) != NANO:
        raise UsageError(f"`--from {name}` has other shapes than nano", hint=hint)
    return checkpoint


def start_tokenizer(name: str | None) -> Tokenizer:
    """Return the tokenizer of the checkpoint ``name``, or a new one. Raises as ``open_start``."""
    return Tokenizer.from_str(new_tokenizer()) if name is None else open_start(name).tokenizer


def load_start(name: str, network: SmolVLM) -> None:
    """Load the weights of the checkpoint ``name`` into ``network``. Raises as ``open_start``."""
    checkpoint = open_start(name)
    assert checkpoint.weights is not None
    stored: dict[str, torch.Tensor] = {}
    for file in checkpoint.weights.files:
        stored |= load_file(file)
    if network.config.tie_word_embeddings:
        stored["lm_head.weight"] = stored["model.text_model.embed_tokens.weight"]
    network.load_state_dict(stored)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def init_weights(model: nn.Module) -> None:
    """Initialise matrices normally; smaller for those whose output is added to the residual."""
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        if "patch_embedding" in name or "modality_projection" in name:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            residual = any(end in name for end in ("o_proj", "out_proj", "down_proj", "fc2"))
            nn.init.normal_(parameter, std=0.006 if residual else 0.02)
