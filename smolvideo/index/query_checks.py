"""The checks of a query: what the model is asked about the frames of a window.

A published model is asked once whether the video shows the query. ``nano`` was trained on a few
wordings, which ``nano_checks`` picks from a query; words that it cannot check are named.
"""

from dataclasses import dataclass

from smolvideo.index.checks import YES_NO, Check
from smolvideo.index.nano_checks import nano_checks
from smolvideo.models import Checkpoint

MAX_QUERY_CHARACTERS = 300
"""A longer query is cut in the question: the frames need the context."""
_MAX_NAMED = 5


@dataclass(frozen=True)
class QueryChecks:
    """The checks of a query, and its words that none of them is about."""

    checks: tuple[Check, ...] = ()
    unchecked: tuple[str, ...] = ()

    def notices(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Say which words the model cannot look for, and what decides about them."""
        if not self.unchecked:
            return ()
        named = ", ".join(f"`{word}`" for word in self.unchecked[:_MAX_NAMED])
        more = ", …" if len(self.unchecked) > _MAX_NAMED else ""
        return (
            f"{checkpoint.name} knows the words of its drawn world, and cannot look for "
            f"{named}{more}: notes and subtitles alone can confirm it, and each word that none of "
            "them has halves the score",
        )


def checks_of(query: str, checkpoint: Checkpoint) -> QueryChecks:
    """Return the questions that confirm ``query``; none where the frames cannot tell."""
    text = " ".join(query.split())[:MAX_QUERY_CHARACTERS].strip(" .?!")
    if not text:
        return QueryChecks()
    if checkpoint.is_nano:
        return QueryChecks(*nano_checks(text))
    return QueryChecks((Check(f"Does this video show {text}? Answer yes or no.", YES_NO, 0),))
