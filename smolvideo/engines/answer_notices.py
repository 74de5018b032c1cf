"""Notices on finished answers: empty, cut at the token limit, repeating, or not valid UTF-8."""

from collections.abc import Sequence

from smolvideo.answer import StopReason
from smolvideo.engines.detokenizer import REPLACEMENT_CHARACTER

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
