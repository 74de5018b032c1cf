"""Questions from the grammar in ``grammar.toml``: intents × forms × words, with typing errors.

What an exam asks in words of its own is kept out by construction: a form that equals one of the
reserved sentences, before its fields are filled, is drawn again.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any

CLAUSE_PROBABILITY = 0.25
SHORT_PROBABILITY = 0.15
TYPO_PROBABILITY = 0.05
"""Of a question: one letter of one of its own words is left out, doubled, or swapped."""
HASTE_PROBABILITY = 0.25
"""Of a question: no capital letter and no mark at the end."""

_WORD = re.compile(r"<(\w+)>")
_OPTION = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Grammar:
    """The forms of each intent, the words among them, and sentences that are never generated.

    ``reserved`` are sentences with their fields in braces, as ``plain_form`` returns them;
    ``typos`` is the probability of a typing error in a question.
    """

    words: Mapping[str, tuple[str, ...]]
    frames: Mapping[str, tuple[str, ...]]
    intents: Mapping[str, Mapping[str, tuple[str, ...]]]
    unanswerable: Mapping[str, tuple[str, ...]]
    reserved: frozenset[str] = frozenset()
    typos: float = TYPO_PROBABILITY

    def ask(self, random: Random, intent: str, **fields: str) -> str:
        """Return a question of ``intent`` with its fields filled. Raises KeyError for an unknown
        intent or a missing field."""
        while True:
            form = self._form(random, self.intents[intent])
            if plain_form(form) not in self.reserved:
                break
        text = _with_articles(form.format(**fields), fields.values())
        if random.random() < self.typos:
            text = mistype(random, text, keep=fields.values())
        if random.random() < HASTE_PROBABILITY:
            text = f"{text[0].lower()}{text[1:].rstrip('?.')}"
        return text

    def ask_unanswerable(self, random: Random) -> str:
        """Return a question that no drawing answers."""
        while True:
            form = self._expand(random, random.choice(self.unanswerable["questions"]))
            if plain_form(form) not in self.reserved:
                return form

    def _form(self, random: Random, forms: Mapping[str, tuple[str, ...]]) -> str:
        """Return a sentence of one of the three kinds, its fields still in braces."""
        draw = random.random()
        if draw < SHORT_PROBABILITY:
            return self._expand(random, random.choice(forms["short"]))
        if draw < SHORT_PROBABILITY + CLAUSE_PROBABILITY:
            clause = random.choice(forms["clauses"])
            frame = random.choice(self.frames["clauses"])
            return self._expand(random, frame.replace("{clause}", clause))
        question = random.choice(forms["questions"])
        frame = random.choice(self.frames["questions"])
        lower = f"{question[0].lower()}{question[1:]}"
        return self._expand(random, frame.replace("{question}", question).replace("{lower}", lower))

    def _expand(self, random: Random, form: str) -> str:
        """Choose among the optional parts and the words of ``form``."""
        form = _OPTION.sub(lambda part: part[1] if random.random() < 0.5 else "", form)
        while (found := _WORD.search(form)) is not None:
            chosen = random.choice(self._alternatives(found[1]))
            form = form[: found.start()] + chosen + form[found.end() :]
        form = " ".join(form.split())
        return re.sub(r" ([?.,:])", r"\1", f"{form[0].upper()}{form[1:]}")

    def _alternatives(self, name: str) -> tuple[str, ...]:
        return self.words[name] if name in self.words else self.unanswerable[name]


def plain_form(sentence: str) -> str:
    """Return ``sentence`` in lower case without punctuation; fields stay in braces.

    >>> plain_form("So, what colour is the {shape}?")
    'so what colour is the {shape}'
    """
    return " ".join(re.findall(r"[\w{}']+", sentence.lower()))


def mistype(random: Random, text: str, *, keep: Iterable[str] = ()) -> str:
    """Return ``text`` with one letter left out, doubled or swapped with the next, in a word of four
    letters or more that is not among those of ``keep``."""
    kept = {word for phrase in keep for word in phrase.split()}
    words = [
        found
        for found in re.finditer(r"[A-Za-z]{4,}", text)
        if found[0] not in kept and found[0].rstrip("s") not in kept
    ]
    if not words:
        return text
    word = random.choice(words)
    at = random.randrange(word.start() + 1, word.end() - 1)
    changed = random.choice(
        (text[at + 1 : at + 2], text[at] * 2 + text[at + 1], text[at + 1] + text[at])
    )
    return text[:at] + changed + text[at + 2 :]


def _with_articles(text: str, fields: Iterable[str]) -> str:
    """Write ``an`` before a field that begins with a vowel."""
    for words in fields:
        if words[:1] in "aeiou":
            text = re.sub(rf"\b([aA]) {re.escape(words)}", rf"\1n {words}", text)
    return text


def forms(grammar: Grammar, intent: str) -> Iterator[str]:
    """Yield the questions, clauses and short forms of an intent as they are written."""
    for kind in grammar.intents[intent].values():
        yield from kind


@cache
def load_grammar() -> Grammar:
    """Return the grammar of the package, without the sentences of the exam."""
    text = files("smolvideo.train.world").joinpath("grammar.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    return Grammar(
        _tuples(content["words"]),
        _tuples(content["frames"]),
        {name: _tuples(forms) for name, forms in content["intent"].items()},
        _tuples(content["unanswerable"]),
        frozenset(map(plain_form, _exam_sentences())),
    )


def _exam_sentences() -> Iterator[str]:
    """Yield every sentence of the exam's own wordings and of its unanswerable questions."""
    folder = files("smolvideo.train.exam")
    for name in ("new_wordings.toml", "unanswerable.toml"):
        content = tomllib.loads(folder.joinpath(name).read_text(encoding="utf-8"))
        yield from _strings(content)


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content.replace("{a_thing}", "a {thing}")
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def _tuples(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(entries) for name, entries in table.items()}
