"""The words of a query as an FTS5 expression: quoted tokens, never the user's own syntax.

https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence

MAX_TERMS = 32
"""Further words of a query are left out of the text search; the question about frames has all."""
MAX_CHARACTERS = 2_000

_MAX_LEFT_OUT = 8
"""Words of a query up to which each is left out in turn."""

TOKENIZER = "tokenize = 'porter unicode61 remove_diacritics 2'"
"""Words without accents, by their English stems: ``dogs`` finds ``dog``."""

_WITHOUT_WORD_BREAKS = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
"""Scripts without spaces between words."""
_WORD = re.compile(rf"[{_WITHOUT_WORD_BREAKS}]+|[^\W_{_WITHOUT_WORD_BREAKS}]+")
_NO_BREAKS = re.compile(rf"[{_WITHOUT_WORD_BREAKS}]")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "any", "are", "as", "at", "be", "by", "for", "from", "has", "have"),
        *("in", "is", "it", "its", "of", "on", "or", "some", "somebody", "someone", "something"),
        *("that", "the", "there", "this", "to", "was", "were", "which", "who", "with"),
    )
)


def query_terms(query: str) -> tuple[str, ...]:
    """Return the distinct words of ``query`` in lower case, in order, without stop words unless
    there are no others; of a script without spaces the pairs of neighbouring characters.

    >>> query_terms('A dog in the "snow" NOT* cat')
    ('dog', 'snow', 'not', 'cat')
    >>> query_terms("雪の中 dog")
    ('雪の', 'の中', 'dog')
    """
    found = (term for word in _WORD.findall(query[:MAX_CHARACTERS]) for term in _terms(word))
    words = list(dict.fromkeys(found))
    content = [word for word in words if word not in _STOP_WORDS]
    return tuple((content or words)[:MAX_TERMS])


def _terms(word: str) -> Iterator[str]:
    if not has_no_word_breaks(word):
        yield word.lower()
    elif len(word) == 1:
        yield word
    else:
        yield from (word[at : at + 2] for at in range(len(word) - 1))


def has_no_word_breaks(term: str) -> bool:
    """Whether a term is of a script without spaces between words: it is found as a part of a text,
    as no table of words has it."""
    return _NO_BREAKS.match(term) is not None


def loosening(terms: Sequence[str]) -> Iterator[str]:
    """Yield FTS5 expressions for rows with all ``terms``, with all but one, with fewer, and at last
    with any of them.

    ``terms`` are words of ``query_terms``, the rarest first; of many the most frequent are left out
    together.

    >>> [*loosening(("red", "or", "x"))][:4]
    ['"red" AND "or" AND "x"', '"red" AND "or"', '"red" AND "x"', '"or" AND "x"']
    """
    quoted = [f'"{term}"' for term in terms]
    if not quoted:
        return
    yield " AND ".join(quoted)
    if 2 < len(quoted) <= _MAX_LEFT_OUT:
        for left_out in reversed(range(len(quoted))):
            yield " AND ".join(quoted[:left_out] + quoted[left_out + 1 :])
    for count in range(len(quoted) - 2, 1, -1):
        yield " AND ".join(quoted[:count])
    if len(quoted) > 1:
        yield from quoted


def stems_of(terms: Sequence[str]) -> list[list[str]]:
    """Return the tokens of each term in the index: its stem, or several where the tokenizer splits
    it."""
    database = sqlite3.connect(":memory:")
    try:
        database.execute(f"CREATE VIRTUAL TABLE texts USING fts5 (a, {TOKENIZER})")
        database.execute("CREATE VIRTUAL TABLE words USING fts5vocab (texts, instance)")
        database.executemany("INSERT INTO texts (rowid, a) VALUES (?, ?)", enumerate(terms))
        stems: list[list[str]] = [[] for _ in terms]
        for number, stem in database.execute("SELECT doc, term FROM words"):
            stems[number].append(stem)
        return stems
    finally:
        database.close()
