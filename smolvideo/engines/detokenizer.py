"""From token ids to text, piece by piece: no half characters, no special tokens, no outer
blanks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

REPLACEMENT_CHARACTER = "\ufffd"
"""What a decoder writes for bytes that are no character, or not one yet."""

WINDOW = 48
"""So many ids are decoded at a time; a character takes at most four of them."""

OVERLAP = 8
"""So many ids are kept before a new one: some decoders treat the very first id in a special way."""


class StreamingDetokenizer:
    """Turns ids into text as they come. ``push`` gives the text that an id completed;
    ``incomplete`` says whether bytes are held back that are no character yet."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._unseen = {
            token_id
            for token_id, token in tokenizer.get_added_tokens_decoder().items()
            if token.special
        }
        self._window: list[int] = []
        self._given = ""
        self.incomplete = False

    def push(self, token_id: int) -> str:
        """The characters that ``token_id`` completes; empty for special tokens and half
        characters."""
        if token_id in self._unseen:
            return ""
        self._window.append(token_id)
        decoded = self._decode(self._window)
        whole = decoded.rstrip(REPLACEMENT_CHARACTER)
        self.incomplete = whole != decoded
        piece = whole[len(self._given) :]
        self._given = whole
        if not self.incomplete and len(self._window) > WINDOW:
            self._window = self._window[-OVERLAP:]
            self._given = self._decode(self._window)
        return piece

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)


class StopStringBuffer:
    """Strips outer blanks and cuts at the stop texts, holding back only what may still change.

    Blanks at the front are dropped before stop texts are looked for, so a stop text of one line
    break means the end of the first line, not nothing at all.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self._begun = False
        self.stopped = False

    def push(self, piece: str) -> str:
        """What can be shown now that ``piece`` has come; sets ``stopped`` at a stop text."""
        if self.stopped:
            return ""
        self._held += piece if self._begun else piece.lstrip()
        self._begun = self._begun or bool(self._held)
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, at = min(found)  # the first to be complete, as if the text came letter by letter
            return self._give(len(self._held[:at].rstrip()))
        return self._give(self._safe_length())

    def finish(self) -> str:
        """What was held back and is text after all."""
        return "" if self.stopped else self._give(len(self._held.rstrip()))

    def _safe_length(self) -> int:
        """How much of what is held can neither be a trailing blank nor the start of a stop text."""
        length = len(self._held.rstrip())
        for stop in self._stop:
            for begun in range(min(len(stop) - 1, len(self._held)), 0, -1):
                if self._held.endswith(stop[:begun]):
                    length = min(length, len(self._held) - begun)
                    break
        return len(self._held[:length].rstrip())

    def _give(self, length: int) -> str:
        given, self._held = self._held[:length], self._held[length:]
        return given
