"""Documents that a grammar allows are valid by jsonschema, whatever tokens are chosen."""

import json
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from support.hard_schemas import HARD, random_schema
from support.project import SHARED

from smolvideo.answer_schema import compile_grammar, schema_text
from smolvideo.engines.answer_grammar import AnswerGrammar
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint, open_checkpoint
from smolvideo.models.checkpoint import read_checkpoint
from smolvideo.prompt import Message, pack_prompt

REFUSED = [schema for schema in HARD if "uniqueItems" in schema or "not" in schema]
MAX_TOKENS = 600


@pytest.fixture(scope="module")
def nano() -> Checkpoint:
    return open_checkpoint("nano")


def document(checkpoint: Checkpoint, schema: Any, seed: int) -> str | None:
    """Return a text of random tokens that the grammar allows; None if it does not end."""
    prompt = pack_prompt([Message("user", ("?",))], checkpoint)
    grammar = AnswerGrammar(checkpoint, prompt, schema_text(schema))
    random = torch.Generator().manual_seed(seed)
    tokens = grammar.forced_tokens()
    while not grammar.is_complete:
        masked = grammar.mask(torch.rand(len(checkpoint.tokenizer.get_vocab()), generator=random))
        chosen = int(masked.argmax())
        if chosen in checkpoint.eos_token_ids:
            break
        grammar.accept(chosen)
        tokens += [chosen, *grammar.forced_tokens()]
        if len(tokens) > MAX_TOKENS:
            return None
    assert not {*tokens} & {*checkpoint.special_tokens.values()}
    return checkpoint.tokenizer.decode(tokens).strip()


def check(text: str, schema: Any) -> None:
    kind = Draft7Validator if isinstance(schema.get("items"), list) else Draft202012Validator
    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))


@pytest.mark.parametrize("number", range(len(HARD)))
def test_documents_of_hard_schemas_are_valid(nano: Checkpoint, number: int) -> None:
    schema = HARD[number]
    if schema in REFUSED or schema.get("oneOf") == [{"type": "integer"}, {"type": "number"}]:
        with pytest.raises(UsageError, match=r"uniqueItems|not|oneOf"):
            compile_grammar(schema_text(schema))
        return
    found = [document(nano, schema, seed) for seed in range(2)]
    assert any(text is not None for text in found)
    for text in found:
        if text is not None:
            check(text, schema)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_documents_of_random_schemas_are_valid(seed: int) -> None:
    schema = random_schema(Random(seed))
    text = document(open_checkpoint("nano"), schema, seed)
    if text is not None:
        check(text, schema)


NUMBERS = st.one_of(
    st.integers(-1000, 1000),
    st.floats(-1e6, 1e6).map(lambda number: round(number, 6)),
    st.floats(-1e-3, 1e-3).map(lambda number: round(number, 6)),
    st.sampled_from([0, 1, -1, 0.001, 0.5]),
)
BOUNDS = st.sampled_from(["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"])


@settings(max_examples=60)
@given(
    st.sampled_from(["number", "integer"]),
    st.dictionaries(BOUNDS, NUMBERS, max_size=3),
    st.integers(0, 99),
)
def test_numbers_are_within_their_bounds(kind: str, bounds: dict[str, float], seed: int) -> None:
    schema = {"type": kind, **bounds}
    try:
        compile_grammar(schema_text(schema))
    except UsageError:
        low = max([bounds.get("minimum", -1e9), bounds.get("exclusiveMinimum", -1e9)])
        high = min([bounds.get("maximum", 1e9), bounds.get("exclusiveMaximum", 1e9)])
        assert high - low <= (0 if kind == "number" else 1)
        return
    text = document(open_checkpoint("nano"), schema, seed)
    assert text is not None
    check(text, schema)


SPELLED = [
    {"const": "<image> <|im_end|> <end_of_utterance>"},
    {"enum": ["<end_of_utterance>", "<|im_start|>"]},
    {"properties": {"<image>": {"const": 1}}, "required": ["<image>"]},
]


@pytest.mark.parametrize("schema", SPELLED)
def test_special_tokens_in_a_schema_are_ordinary_characters(
    nano: Checkpoint, schema: dict[str, Any]
) -> None:
    text = document(nano, schema, 0)
    assert text is not None
    check(text, schema)


@pytest.mark.checkpoints
@pytest.mark.parametrize("name", ["SmolVLM2-256M-Video-Instruct", "SmolVLM-Instruct"])
def test_published_tokenizers_have_no_special_token_in_a_string(name: str) -> None:
    checkpoint = read_checkpoint(SHARED / "processor_files" / name, name=name, weights=False)
    prompt = pack_prompt([Message("user", ("?",))], checkpoint)
    grammar = AnswerGrammar(checkpoint, prompt, '{"type":"string"}')
    for token_id in checkpoint.text_tokenizer.encode(' "', add_special_tokens=False).ids:
        grammar.accept(token_id)
    allowed = torch.isfinite(grammar.mask(torch.zeros(checkpoint.tokenizer.get_vocab_size())))
    assert allowed.sum() > 40_000
    assert not allowed[list(checkpoint.special_tokens.values())].any()
    for schema in SPELLED:
        text = document(checkpoint, schema, 0)
        assert text is not None
        check(text, schema)
