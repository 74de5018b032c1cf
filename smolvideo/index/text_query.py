"""The words of a query as an FTS5 expression: quoted tokens, never the user's own syntax.

https://www.sqlite.org/fts5.html#full_text_query_syntax
"""

import re
from collections.abc import Sequence

MAX_TERMS = 32
"""Further words of a query are left out of the text search; the question about frames has all."""
MAX_CHARACTERS = 2_000

_WORD = re.compile(r"[^\W_]+")
_STOP_WORDS = frozenset(
    (
        *("a", "an", "and", "any", "are", "as", "at", "be", "by", "for", "from", "has", "have"),
        *("in", "is", "it", "its", "of", "on", "or", "some", "somebody", "someone", "something"),
        *("that", "the", "there", "this", "to", "was", "were", "which", "who", "with"),
    )
)


def query_terms(query: str) -> tuple[str, ...]:
    """Return the distinct words of ``query`` in lower case, in order, without stop words unless
    there are no others.

    >>> query_terms('A dog in the "snow" NOT* cat')
    ('dog', 'snow', 'not', 'cat')
    """
    words = list(dict.fromkeys(_WORD.findall(query[:MAX_CHARACTERS].casefold())))
    content = [word for word in words if word not in _STOP_WORDS]
    return tuple((content or words)[:MAX_TERMS])


def match_any(terms: Sequence[str]) -> str:
    """Return the FTS5 expression for rows with any of ``terms``, which ``query_terms`` made.

    >>> match_any(("red", "or"))
    '"red" OR "or"'
    """
    return " OR ".join(f'"{term}"' for term in terms)


def match_all(terms: Sequence[str]) -> str:
    """Return the FTS5 expression for rows with all of ``terms``."""
    return " AND ".join(f'"{term}"' for term in terms)
