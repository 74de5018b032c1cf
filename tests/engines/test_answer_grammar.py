"""Answers by a schema are JSON that it allows, on every engine, sampled or not, in batches, too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from support import tinymodels
from support.project import ROOT

import smolvideo
from smolvideo.engines import Engine, GenerationOptions, NativeEngine, SessionEngine, load_engine
from smolvideo.engines.answer_grammar import AnswerGrammar
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.prompt import Message, Prompt, pack_prompt

CIRCLE = ROOT / "samples" / "circle_right.mp4"
SCENE = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "purple", "dark blue"]},
        "moving": {"type": "boolean"},
        "note": {"type": "string", "maxLength": 12},
        "sizes": {"type": "array", "items": {"type": "integer", "maximum": 99}, "maxItems": 3},
        "place": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"x": {}}}]},
    },
    "required": ["colour", "moving", "note", "sizes", "place"],
}


@pytest.fixture(scope="module", params=["nano", "native", "transformers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """nano, and a tiny network of random weights on both engines."""
    if request.param == "nano":
        return load_engine("nano", device="cpu")
    folder = tinymodels.make_tiny(tmp_path_factory.mktemp("grammar") / "tiny")
    return load_engine(str(folder), engine=request.param, device="cpu")


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return open_checkpoint("nano")


def ask(checkpoint: Checkpoint, question: str) -> Prompt:
    return pack_prompt([Message("user", (question,))], checkpoint)


def by_schema(schema: Any, **more: Any) -> GenerationOptions:
    return GenerationOptions(schema=schema, **{"max_new_tokens": 400, **more})


def check(text: str, schema: dict[str, Any]) -> Any:
    """Return the value of an answer that is valid, in the spelling of ``json.dumps``."""
    value = json.loads(text)
    Draft202012Validator(schema).validate(value)
    assert text == json.dumps(value, ensure_ascii=False) or "\\" in text
    return value


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 3, "top_p": 0.95}])
def test_answer_is_valid_json(engine: Engine, sampling: dict[str, Any]) -> None:
    answer = engine.stream(ask(engine.checkpoint, "What?"), by_schema(SCENE, **sampling)).result()
    value = check(answer.text, SCENE)
    assert list(value) == list(SCENE["properties"])
    assert answer.stop_reason == "end"
    assert answer.parse() == value


def test_penalty_leaves_the_answer_valid(engine: Engine) -> None:
    options = by_schema(SCENE, repetition_penalty=1.8)
    check(engine.stream(ask(engine.checkpoint, "What?"), options).result().text, SCENE)


@pytest.mark.parametrize("engine", ["nano", "native"], indirect=True)
def test_batch_and_forks_equal_single_answers(engine: Engine) -> None:
    assert isinstance(engine, SessionEngine)
    prompts = [ask(engine.checkpoint, text) for text in ("What?", "Where is the ball?", "Who?")]
    alone = [engine.stream(prompt, by_schema(SCENE)).result().text for prompt in prompts]
    session = engine.open_session()
    together = session.answer_batch(prompts, by_schema(SCENE))
    assert [answer.text for answer in together] == alone
    first, second = session.fork(), session.fork()
    turns = [iter(one.stream(prompts[0], by_schema(SCENE))) for one in (first, second)]
    texts = ["", ""]
    while any(turn is not None for turn in turns):
        for at, turn in enumerate(turns):
            piece = None if turn is None else next(turn, None)
            texts[at] += piece or ""
            turns[at] = turn if piece is not None else None  # type: ignore[call-overload]
    assert texts == [alone[0], alone[0]]


@pytest.mark.parametrize("limit", [1, 3, 9])
def test_incomplete_document_is_an_error(engine: Engine, limit: int) -> None:
    stream = engine.stream(ask(engine.checkpoint, "What?"), by_schema(SCENE, max_new_tokens=limit))
    with pytest.raises(ModelError, match=r"JSON.*incomplete") as raised:
        list(stream)  # without `result`
    assert "--max-new-tokens" in str(raised.value.hint)
    with pytest.raises(ModelError):
        stream.result()


def test_incomplete_document_of_a_batch_is_an_error() -> None:
    engine = load_engine("nano", device="cpu")
    assert isinstance(engine, NativeEngine)
    prompts = [ask(engine.checkpoint, text) for text in ("What?", "Who?")]
    with pytest.raises(ModelError, match=r"JSON.*incomplete"):
        engine.answer_batch(prompts, by_schema(SCENE, max_new_tokens=5))


def test_number_that_may_go_on_is_not_cut(engine: Engine) -> None:
    schema = {"type": "integer", "minimum": 10**6, "maximum": 10**9}
    prompt = ask(engine.checkpoint, "How many?")
    with pytest.raises(ModelError, match="incomplete"):
        engine.stream(prompt, by_schema(schema, max_new_tokens=2)).result()


def test_no_special_token_can_be_part_of_a_string(engine: Engine) -> None:
    checkpoint = engine.checkpoint
    grammar = AnswerGrammar(checkpoint, ask(checkpoint, "?"), '{"type":"string"}')
    for token_id in checkpoint.text_tokenizer.encode(' "', add_special_tokens=False).ids:
        grammar.accept(token_id)
    allowed = torch.isfinite(grammar.mask(torch.zeros(checkpoint.tokenizer.get_vocab_size())))
    added = checkpoint.tokenizer.get_added_tokens_decoder()
    special = [token_id for token_id, token in added.items() if token.special]
    assert allowed.sum() > 5
    assert not allowed[[*special, *checkpoint.special_tokens.values()]].any()


def test_logits_beyond_the_vocabulary_are_never_chosen(nano: Checkpoint) -> None:
    grammar = AnswerGrammar(nano, ask(nano, "?"), '{"type":"boolean"}')
    logits = torch.zeros(nano.tokenizer.get_vocab_size() + 50, dtype=torch.bfloat16)
    logits[-1] = 100
    masked = grammar.mask(logits)
    assert masked.dtype == torch.float32
    assert torch.isneginf(masked[-50:]).all()


def test_names_of_properties_are_the_tokens_of_the_tokenizer(nano: Checkpoint) -> None:
    grammar = AnswerGrammar(nano, ask(nano, "?"), json.dumps(SCENE))
    forced = grammar.forced_tokens()
    text = nano.tokenizer.decode(forced)
    assert '{"colour":' in text.replace(" ", "")
    assert nano.text_tokenizer.encode(text, add_special_tokens=False).ids == forced


def test_schema_follows_the_conventions_of_options() -> None:
    options = GenerationOptions(schema={"type": "integer"})
    assert options.schema == '{"type":"integer"}'
    assert options.to_json()["schema"] == {"type": "integer"}
    assert GenerationOptions().to_json()["schema"] is None
    assert hash(options) == hash(GenerationOptions(schema='{"type": "integer"}'))
    with pytest.raises(UsageError, match="`stop` would cut"):
        GenerationOptions(schema="name", stop=("x",))


def test_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smolvideo.answer_schema.grammar.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="llguidance") as raised:
        GenerationOptions(schema="seen_by_no_other_test int")
    assert raised.value.hint == "pip install 'smolvideo[json]'"


def test_python_gets_objects_of_a_pydantic_model() -> None:
    pydantic = pytest.importorskip("pydantic")
    scene = pydantic.create_model("Scene", colour=(str, ...), count=(int, pydantic.Field(le=9)))
    options = GenerationOptions(schema=scene)
    answer = smolvideo.ask("nano", CIRCLE, "What moves?", generation=options)
    assert isinstance(answer.parse(scene), scene)


def test_prompt_that_does_not_fit_is_refused_before_the_grammar(tmp_path: Path) -> None:
    engine = load_engine("nano", device="cpu")
    with pytest.raises(PromptError):
        engine.stream(ask(engine.checkpoint, "word " * 3000), by_schema(SCENE))


def test_each_token_has_finite_logits_and_certain_ones_the_probability_1(engine: Engine) -> None:
    seen: list[tuple[int, torch.Tensor]] = []
    prompt = ask(engine.checkpoint, "What?")
    stream = engine.stream(prompt, by_schema(SCENE), on_token=lambda *token: seen.append(token))
    text = stream.result().text
    assert engine.checkpoint.tokenizer.decode([token_id for token_id, _ in seen]).strip() == text
    logprobs = [float(logits.float().log_softmax(-1)[token_id]) for token_id, logits in seen]
    assert all(np.isfinite(one) for one in logprobs)
    assert logprobs[0] == pytest.approx(0)
