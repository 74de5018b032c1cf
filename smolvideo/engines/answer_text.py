"""Text of an answer: streaming detokenizer, and notices on the finished text.

``StopStringBuffer`` strips outer blanks and cuts the text at stop strings.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smolvideo.answer import StopReason

if TYPE_CHECKING:
    from tokenizers import Tokenizer


REPLACEMENT_CHARACTER = "\ufffd"
"""The tokenizer's output for bytes that are no character, or not yet a complete one."""

WINDOW = 48
"""Maximum ids that are decoded together; a character takes four of them at most."""

OVERLAP = 8
"""Ids that stay in the window before a new one: some decoders treat the very first id in a special
way."""


class StreamingDetokenizer:
    """Convert ids to text one by one.

    ``push`` returns the text that an id completes; ``incomplete`` is True while the last bytes are
    an incomplete character, which is held back.
    """

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
        """Return the characters that ``token_id`` completes; empty for special tokens and
        incomplete characters."""
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
    """Strip outer blanks and cut at stop strings, holding back only text that may still change.

    Leading blanks are dropped before the search for stop strings, so that a line break as stop
    string ends the answer after its first line, not before it.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self._begun = False
        self.stopped = False

    def push(self, piece: str) -> str:
        """Append ``piece``; return the text that is final now. Sets ``stopped`` at a stop
        string."""
        if self.stopped:
            return ""
        self._held += piece if self._begun else piece.lstrip()
        self._begun = self._begun or bool(self._held)
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, at = min(found)  # the first to be complete, as if text came by characters
            return self._give(len(self._held[:at].rstrip()))
        return self._give(self._safe_length())

    def finish(self) -> str:
        """Return the text that was held back, at the end of the answer."""
        return "" if self.stopped else self._give(len(self._held.rstrip()))

    def _safe_length(self) -> int:
        """Length of the held text that can neither be a trailing blank nor the start of a stop
        string."""
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


_MIN_REPEATS = 4
_MIN_REPEATED_TOKENS = 16
"""An answer that was cut while it repeated one run of tokens at least ``_MIN_REPEATS`` times,
over at least this many tokens, was in a loop: shorter repetitions end by themselves ("no, no, no,
no")."""


def notices_on(
    text: str,
    stop_reason: StopReason,
    token_ids: Sequence[int],
    *,
    incomplete: bool,
) -> tuple[str, ...]:
    """Return notices on the answer ``text``, generated as ``token_ids`` (the end token included).

    ``incomplete``: the answer ends within a multi-byte character, which is left out.
    """
    # an empty answer: the reason alone
    count = len(token_ids)
    tokens = f"{count} token" + "s" * (count != 1)
    if not text:
        return (f"the answer is empty: {_why_empty(stop_reason, tokens)}",)
    # cut at the limit, perhaps in a loop
    notices = []
    if stop_reason == "length":
        loop = ", repeating itself" if is_loop(token_ids) else ""
        notices.append(
            f"the answer was cut after {tokens}{loop}: "
            + ("`--repetition-penalty 1.1` may help" if loop else "`--max-new-tokens` allows more")
        )
    # bytes that are not UTF-8
    if REPLACEMENT_CHARACTER in text or (incomplete and stop_reason != "length"):
        notices.append("the answer holds bytes that are no UTF-8 text: characters are missing")
    return tuple(notices)


def is_loop(token_ids: Sequence[int]) -> bool:
    """Whether ``token_ids`` end with repetitions of one run of tokens.

    >>> is_loop([9, *[1, 2, 3] * 6]), is_loop([9, 1, 1, 1, 1])
    (True, False)
    """
    last = len(token_ids)
    for period in range(1, last // _MIN_REPEATS + 1):
        wanted = max(_MIN_REPEATS * period, _MIN_REPEATED_TOKENS)
        if wanted <= last and all(
            token_ids[at] == token_ids[at - period] for at in range(last - wanted + period, last)
        ):
            return True
    return False


def _why_empty(stop_reason: StopReason, tokens: str) -> str:
    if stop_reason == "stop_string":
        return "it began with the text to stop at"
    if stop_reason == "length":
        return f"{tokens} without text, and `--max-new-tokens` allows no more"
    if tokens == "1 token":
        return "the model ended its turn at once"
    return f"the model ended its turn after {tokens} without text"
