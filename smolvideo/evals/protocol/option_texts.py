"""The texts of options in an answer: the whole of it, or marks where one is named."""

import re
from collections.abc import Callable, Sequence

from smolvideo.evals.protocol.normalize import folded, same_length_folded, unified

FIRST_MARK = 0xE100
"""What stands for the first option in a marked text: a character of private use."""

_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)")
OUTER = "\"'()[]{}.,;:!?\u3002\uff0c \n"
_ENDS = re.compile(r"[\s.\u3002]+$")


def whole_option(text: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """The one option that ``text`` is, and whether some option was met at all.

    The strictest spelling decides: letter by letter; quotation marks, dashes, widths alike; case
    alike; without a full stop; without punctuation around; without an article in front. Where
    several options are the same at the strictest that fits, none is meant.
    """
    for text_form, option_form in _FORMS:
        wanted = text_form(text)
        same = [place for place, option in enumerate(options) if option_form(option) == wanted]
        if wanted and same:
            return (same[0] if len(same) == 1 else None), True
    return None, False


def _no_stop(text: str) -> str:
    return _ENDS.sub("", folded(text))


def _bare(text: str) -> str:
    return folded(text).strip(OUTER)


def _no_article(text: str) -> str:
    return _ARTICLE.sub("", _bare(text))


_FORMS: tuple[tuple[Callable[[str], str], Callable[[str], str]], ...] = (
    (str.strip, str.strip),
    (unified, unified),
    (folded, folded),
    (_no_stop, folded),
    (_no_stop, _no_stop),
    (_bare, folded),
    (_bare, _bare),
    (_no_article, _no_article),
)
"""How the answer and how an option is spelled before the two are compared, step by step."""


def marked(text: str, options: Sequence[str]) -> str:
    """``text`` with one mark (``FIRST_MARK`` + its place) where an option is named in full.

    Of two options that overlap the longer one is named; another article counts where no option is
    named exactly. Signs and figures belong to a word: ``5``
    is not named in ``-5``, ``5 %``, ``1.5`` or ``$5``.
    """
    found = same_length_folded(text)
    spans = _spans(found, options, _exactly) or _spans(found, options, _with_other_articles)
    taken: list[tuple[int, int, int]] = []
    covered = bytearray(len(text))
    for length, start, place in sorted(spans, key=lambda span: (-span[0], span[1])):
        if not any(covered[start : start + length]):
            covered[start : start + length] = b"\1" * length
            taken.append((start, length, place))
    parts, at = [], 0
    for start, length, place in sorted(taken):
        parts += [text[at:start], chr(FIRST_MARK + place)]
        at = start + length
    return "".join([*parts, text[at:]])


_LONGEST = 400
_NEVER_INSIDE = frozenset(
    {"yes", "no", "not", "a", "i", "true", "false", "none", "on", "off", "in", "out"}
    | {"still", "before", "after", "during", "never", "always", "often", "sometimes", "then"}
)
"""Words with other uses in a sentence; as whole answers they are options all the same."""


_Spelled = Callable[[str], Sequence[str]]


def _spans(text: str, options: Sequence[str], spelled: _Spelled) -> list[tuple[int, int, int]]:
    """Where options are named, as they are ``spelled``: length, start, place."""
    return [
        (len(wanted), start, place)
        for place, option in enumerate(options)
        for wanted in spelled(option)
        if _names_something(wanted)
        for start in _places_of(wanted, text)
    ]


def _exactly(option: str) -> Sequence[str]:
    wanted = _ENDS.sub("", same_length_folded(unified(option)))
    return [wanted] if len(wanted) <= _LONGEST else []


def _with_other_articles(option: str) -> Sequence[str]:
    """The dog, where the option is a dog: looked for where no option is named exactly."""
    return [
        other + wanted[article.end() :]
        for wanted in _exactly(option)
        if (article := _ARTICLE.match(wanted)) is not None
        for other in ("a ", "an ", "the ")
        if other != article[0]
    ]


def _names_something(option: str) -> bool:
    if option in _NEVER_INSIDE:
        return False
    return len(option) > 1 or option.isdecimal() or (bool(option) and _stands_alone(option))


def _places_of(option: str, text: str) -> list[int]:
    places, at = [], text.find(option)
    while at >= 0:
        end = at + len(option)
        if not (_joined(text[max(0, at - 2) : at], option[0], before=True)) and not _joined(
            text[end : end + 2], option[-1], before=False
        ):
            places.append(at)
            at = text.find(option, end)
        else:
            at = text.find(option, at + 1)
    return places


def _joined(beside: str, edge: str, *, before: bool) -> bool:
    """Whether the one or two characters beside the edge of a name belong to the same word."""
    if not beside:
        return False
    near, far = (beside[-1], beside[:-1]) if before else (beside[0], beside[1:])
    if _stands_alone(near) or _stands_alone(edge):
        return False
    if near.isalnum() or near == "_":
        return edge.isalnum() or edge == "_"
    if near in "+#%$\u20ac\u00a3\u00b0&=<>/\\@^~\u00b1\u00d7":
        return near != edge and not (near in "<>" and edge.isalpha())
    if near in "-'" and far:
        return far.isalnum() or (near == "-" and edge.isdecimal())
    if near == "-":
        return edge.isdecimal() and before
    if edge.isdecimal():
        if far == "%" and near == " ":
            return True
        return near in ".,:" and far.isdecimal()
    return False


def _stands_alone(one: str) -> bool:
    """Thai, Chinese and Japanese are written without blanks, Korean ties particles to a word."""
    code = ord(one[0])
    return (
        0x0E00 <= code <= 0x0EFF
        or 0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7A3
    )
