"""Option texts in an answer: match of the whole text, or marks where an option is named."""

import re
from collections.abc import Callable, Sequence

from smolvideo.evals.protocol.normalize import folded, same_length_folded, unified

FIRST_MARK = 0xE100
"""Mark of the first option in a marked text: a private-use character."""

_ARTICLE = re.compile(r"^(?:an?|the) (?=\S)")
OUTER = "\"'()[]{}.,;:!?\u3002\uff0c \n"
_ENDS = re.compile(r"[\s.\u3002]+$")


def whole_option(text: str, options: Sequence[str]) -> tuple[int | None, bool]:
    """Return the option that ``text`` is, and whether any option matched at all.

    The strictest spelling decides: exact; quotation marks, dashes and widths unified; case folded;
    without a full stop; without punctuation around; without a leading article. If several options
    match at the strictest level that matches, the result is None.
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
"""Normal forms of the answer and of an option for each comparison, strictest first."""


def marked(text: str, options: Sequence[str]) -> str:
    """Replace every option named in full by one mark (``FIRST_MARK`` + its index).

    Of two overlapping options the longer one is marked; another article is accepted if no option
    is named exactly. Signs and digits belong to a word: ``5`` is not named in ``-5``, ``5 %``,
    ``1.5`` or ``$5``.
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
"""Words with other uses in a sentence; as a whole answer they still match an option."""


_Spelled = Callable[[str], Sequence[str]]


def _spans(text: str, options: Sequence[str], spelled: _Spelled) -> list[tuple[int, int, int]]:
    """Positions of options in the given spellings: length, start, index."""
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
    """The option with another article: the dog for a dog."""
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
    """Whether the one or two characters next to an edge of a name belong to the same word."""
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
    """Whether a script has no spaces (Thai, Chinese, Japanese) or attaches particles (Korean)."""
    code = ord(one[0])
    return (
        0x0E00 <= code <= 0x0EFF
        or 0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7A3
    )
