"""Delimited answers: tags, LaTeX boxes, JSON."""

import json
import re
from typing import Any

_THOUGHT = re.compile(r"</(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_THINKS = re.compile(r"<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
_TAGGED = re.compile(
    r"<(answer|final_answer|final|choice|option|letter|ans)>([^<>]{0,2000})</\1>", re.IGNORECASE
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s?\{([^{}]{0,400}(?:\{[^{}]{0,200}\}[^{}]{0,200}){0,3})\}")
_OBJECT = re.compile(r"\{[^{}]{0,4000}\}")
_KEYS = frozenset(
    {"answer", "ans", "choice", "option", "letter", "response", "selection", "prediction", "pred"}
    | {"final_answer", "correct_answer", "finalanswer", "correctanswer", "selected_option"}
    | {"correct_option", "answer_letter", "answer_key"}
)


_VERDICTS = frozenset({"correct", "is_correct", "valid", "is_valid", "right", "true"})
_NOTHING = "?"
"""Placeholder for an object that negates its own answer: it matches no option."""


def final_part(text: str) -> str | None:
    """Return the text after the reasoning blocks, or all of it if there are none.

    None if a reasoning block never ends.
    """
    *_, last = _THOUGHT.split(text)
    return None if _THINKS.search(last) else last.strip()


def enclosed_answers(text: str) -> list[str] | None:
    """Return the delimited answers in their order; None if there are none."""
    found = [match[2] for match in _TAGGED.finditer(text)]
    found = [inner for one in found for inner in _BOXED.findall(one) or [one]]
    if not found:
        found = [match[1] for match in _BOXED.finditer(text)]
    if not found and "{" in text:
        for match in _OBJECT.finditer(text):
            found += _values(match[0])
    return [one.strip() for one in found] or None


def _values(text: str) -> list[str]:
    """Values of the answer keys of a JSON object; a value that is not a string as its JSON."""
    for candidate in (text, text.replace("'", '"')):
        try:
            pairs: Any = json.loads(candidate, object_pairs_hook=list)
        except (ValueError, RecursionError):
            continue
        if any(_denied(key, value) for key, value in pairs):
            return [_NOTHING]
        return [
            value if isinstance(value, str) else json.dumps(value)
            for key, value in pairs
            if key.lower().replace(" ", "_").replace("-", "_") in _KEYS
        ]
    return []


def _denied(key: str, value: Any) -> bool:
    """Whether a pair marks an answer as wrong: ``"correct": false``, ``"B": 0``."""
    said = value.strip().lower() if isinstance(value, str) else value
    # `in` also matches 0, which equals False.
    refused = said in (None, False, "false", "no", "wrong", "incorrect", "0")
    return refused and (len(key) == 1 or key.lower().replace(" ", "_") in _VERDICTS)
