"""Random and hard schemas: every answer is valid by jsonschema, and none holds a special token.

    python tests/stress/schemas.py --random 200
    python tests/stress/schemas.py --config ../shared/processor_files/SmolVLM2-256M-Video-Instruct

Each schema is answered twice, greedily and sampled at a high temperature, by nano or a checkpoint
of ``--model``. With ``--config``, a folder of a published checkpoint without its weights, a long
document is generated with random ones instead: processor time of its masks against its steps.
Prints one JSON line; failures are on stderr, and the exit code is 1 then.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

from smolvideo.answer_schema import compile_grammar, schema_text
from smolvideo.bench.report import write_random_weights
from smolvideo.engines import Engine, GenerationOptions, load_engine
from smolvideo.engines.answer_grammar import AnswerGrammar, IncompleteAnswerError
from smolvideo.errors import UsageError
from smolvideo.prompt import Message, Prompt, pack_prompt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.hard_schemas import HARD, random_schema

MAX_NEW_TOKENS = 900
LONG_TEXT = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 60, "maxLength": 80},
        "tags": {"type": "array", "items": {"enum": ["indoor", "outdoor"]}, "minItems": 3},
        "people": {"type": "integer", "minimum": 0, "maximum": 99},
        "description": {"type": "string", "minLength": 400, "maxLength": 500},
    },
    "required": ["title", "tags", "people", "description"],
}


def main() -> int:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("--model", default="nano", help="name or folder of a checkpoint")
    parser.add_argument("--random", type=int, default=200, help="number of random schemas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", type=Path, help="measure masks on random weights")
    given = parser.parse_args()
    if given.config is not None:
        return measure_masks(given.config)
    engine = load_engine(given.model, device="cpu")
    prompt = pack_prompt([Message("user", ("Describe the video.",))], engine.checkpoint)
    schemas = [*HARD, *(random_schema(Random(given.seed + at)) for at in range(given.random))]
    outcomes: Counter[str] = Counter()
    for schema in schemas:
        for sampling in ({}, {"temperature": 1.3, "seed": given.seed}):
            outcome = answer(engine, prompt, schema, sampling)
            outcomes[outcome] += 1
            if outcome in ("invalid", "special token"):
                sys.stderr.write(f"{outcome}: {json.dumps(schema)}\n")
    counts = {"hard": len(HARD), "random": given.random, "answers": 2 * len(schemas)}
    sys.stdout.write(json.dumps({"model": given.model, **counts, **outcomes}) + "\n")
    return int(bool(outcomes["invalid"] + outcomes["special token"]))


def answer(engine: Engine, prompt: Prompt, schema: Any, sampling: dict[str, Any]) -> str:
    """Return ``valid``, ``invalid``, ``special token``, ``refused`` or ``incomplete``."""
    try:
        options = GenerationOptions(schema=schema, max_new_tokens=MAX_NEW_TOKENS, **sampling)
    except UsageError:
        return "refused"
    try:
        text = engine.stream(prompt, options).result().text
    except IncompleteAnswerError:
        return "incomplete"
    return judge(text, schema, engine)


def judge(text: str, schema: Any, engine: Engine) -> str:
    """Return whether a text is valid by the schema as it was given, without our limits.

    Special tokens that the schema itself spells may be in it, as ordinary characters.
    """
    spelled = json.dumps(schema, ensure_ascii=False)
    special = [token for token in engine.checkpoint.special_tokens if token not in spelled]
    if any(token in text for token in special):
        return "special token"
    kind = Draft7Validator if isinstance(schema.get("items"), list) else Draft202012Validator
    checker = kind.FORMAT_CHECKER
    is_valid = kind(schema, format_checker=checker).is_valid(json.loads(text))
    return "valid" if is_valid else "invalid"


def measure_masks(config: Path) -> int:
    """Generate a long document with random weights; print what its masks took."""
    with tempfile.TemporaryDirectory() as folder:
        engine = load_engine(str(write_random_weights(config, Path(folder) / "random")))
        prompt = pack_prompt([Message("user", ("Describe it.",))], engine.checkpoint)
        options = GenerationOptions(schema=LONG_TEXT, max_new_tokens=MAX_NEW_TOKENS)
        engine.stream(prompt, options).result()  # kernels are compiled, the vocabulary is read
        started = time.thread_time()
        compile_grammar.__wrapped__(schema_text(LONG_TEXT), " ")
        compiling = time.thread_time() - started
        clock = _GrammarClock()
        constrained = engine.stream(prompt, options).result().usage
        short, long = (_processor_seconds(engine, prompt, tokens) for tokens in (8, 72))
    tokens, step = constrained.answer_tokens, (long - short) / 64
    result = {
        "shape": config.name,
        "dtype": engine.dtype,
        "tokens": tokens,
        "compile_milliseconds": round(1e3 * compiling, 2),
        "grammar_microseconds_per_token": round(1e6 * clock.seconds / tokens, 1),
        "step_microseconds": round(1e6 * step, 1),
        "share": round(clock.seconds / tokens / step, 4),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _processor_seconds(engine: Engine, prompt: Prompt, tokens: int) -> float:
    """Return the processor time of an answer without a schema, of all threads."""
    started = time.process_time()
    used = engine.stream(prompt, GenerationOptions(max_new_tokens=tokens)).result().usage
    assert used.answer_tokens == tokens, "random weights ended the answer"
    return time.process_time() - started


class _GrammarClock:
    """Adds up the processor time of all calls of ``AnswerGrammar``."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("mask", "accept", "forced_tokens"):
            setattr(AnswerGrammar, name, self._timed(getattr(AnswerGrammar, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.thread_time()
            result = method(*arguments)
            self.seconds += time.thread_time() - started
            return result

        return timed


if __name__ == "__main__":
    raise SystemExit(main())
