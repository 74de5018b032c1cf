"""Option texts in an answer: match of the whole text, marks where one is named, and its context.

The text of an option counts if it is named, unless a word of a closed class is next to it
(``more than 2`` is not ``2``):

- another quantity: comparatives, ranges, names of things that are counted (``frame 2``), times
- another thing: ``or`` and ``and`` before something that is not an option, ``missing`` and the like
  after the text
- a word in which another option differs, in the same clause (``dark red car`` for ``dark red``
  if ``red car`` is an option, too)
- a modifier, if another option is the same text with a modifier

Words of direction have other uses: they count only after verbs of movement and words of place.
"""

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


_END = r"(?=[\s\"')\]]*(?:[.,!?;:\n。]|$))"
_COMPARED = re.compile(
    r"\b(?:(?:more|less|fewer|greater|larger|smaller|bigger|higher|lower|longer|shorter|older|other"
    r"|rather|faster|slower|darker|lighter) than(?: or equal to)?|almost|nearly|except|unlike"
    r"|similar to|mehr als|weniger als|plus de|moins de|más de|menos de|più di|meno di|mais de"
    r"|mais que|menos que|больше|более|меньше|менее|meer dan|minder dan) (?:(?:the|an?) )?$"
)
_QUANTITY = re.compile(
    r"\d|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|half|eine?|zwei"
    r"|drei|vier|fünf|une?|deux|trois|quatre|cinq|una?|dos|tres|cuatro|due|tre|dois|duas|três"
    r"|один|два|три|четыре|пять)\b|[一二两兩三四五六七八九十]"
)
_QUANTITY_BEFORE = re.compile(
    r"(?:\b(?:over|under|above|below|beyond|at least|at most|up to|minimum of|maximum of|between"
    r"|exceeds|mindestens|höchstens|fast|über|unter|bis zu|au moins|au plus|presque|jusqu'à"
    r"|al menos|por lo menos|casi|hasta|como máximo|almeno|quasi|fino a|pelo menos|até|no mínimo"
    r"|no máximo|почти|минимум|максимум|свыше|minstens) |[<>≤≥~]=? ?"
    r"|超过|多于|少于|不到|至少|最多|大于|小于|최소 ?|최대 ?|적어도 ?|少なくとも)$"
)
_NUMBER_BEFORE = re.compile(
    r"\b(?:frame|scene|shot|clip|video|image|picture|photo|step|part|figure|page|line|level|team"
    r"|player|person|row|column|round|day|chapter|version|type|no\.|#|first|last|other|next|every"
    r"|another|top|question)s? ?#?$"
)
_WHILE = re.compile(r"\b(?:in|within|for|during|every|per) $")
_SINCE = re.compile(r"\b(?:after|before|until|till|by|since|past) $")
_QUANTITY_AFTER = re.compile(
    r"(?:\s?\+|\s(?:or (?:more|less|fewer|so)|and (?:more|up|over|above)|to \d|bis \d|more\b|plus\b"
    r"|(?:seconds?|minutes?|hours?|days?|weeks?|months?|years?) (?:later|ago|before|after|into)\b"
    r"|oder mehr|ou plus|ou moins|o más|o menos|o più|ou mais|или (?:более|больше))"
    r"|\s?(?:[개명번个人つ匹台])?\s?(?:以上|以下|以内|未満|个以上|이상|이하|미만))"
)
_TITLE_BEFORE = re.compile(r"\b(?:mr|mrs|ms|miss|dr|prof|sir|team|called|named)\.? $")
_ALTERNATIVE_BEFORE = re.compile(r"\b(?:or|oder|ou|или|nor)(?: (?:maybe|perhaps|the|an?))* $")
_ALTERNATIVE_AFTER = re.compile(
    r"[\"')]*,? (?:(?:or|oder|ou|o|или|and/or) (?!so\b|rather\b|i\b)"
    rf"|(?:and|und|et|y|e|и|en) (?:(?:the|an?|eine?|une?|una?) )?\w+{_END})"
)
_MISSING = re.compile(
    r"[\"')]*(?: [\w']{1,12}){0,4}? (?:missing|absent|lacking|nowhere|(?:is|are|was|were) gone"
    r"|fehlt|fehlen|weg|manque|manquante?|absente?|falta|faltan|ausente|manca|mancano|assente"
    r"|отсутствует|отсутствуют|нет)\b"
)

_MARK = chr(FIRST_MARK + 26)
_DIRECTIONS = frozenset(
    {"left", "right", "up", "down", "back", "forward", "forwards", "backward", "backwards"}
)
_LEADS_TO_DIRECTION = re.compile(
    r"(?:^|\b(?:to|on|at|from|towards?|in|into) (?:(?:the|its|his|her|their|your|my|our) )?"
    r"(?:(?:far|top|bottom|upper|lower|extreme|very) )?"
    r"|\b(?:mov|go|turn|roll|travel|head|point|fac|slid|fl[iy]|jump|run|walk|driv|swim|drift|climb"
    r"|shift|rotat|swip|look|lean|spin|bounc|tilt|scroll|steer|pan|fall|fell|drop|sink|push|pull|throw|kick|swing"
    r"|step|drag|lift|rais)\w{0,4} "
    r"(?:(?:straight|slowly|quickly|directly|slightly|further|steadily|mostly|then|it) )?"
    r"|\b(?:direction|side|way|motion|movement|course)(?: (?:is|was|of))?:? ?(?:the |to )?"
    rf"|[{chr(FIRST_MARK)}-{chr(FIRST_MARK + 25)}],? (?:and|or|then|to|und|et|y) "
    r"(?:then )?(?:the )?"
    r"|[:=,] ?|\b(?:goes|went|answer is|option is|choice is|answer would be) (?:the )?)[\"'(]*$"
)
_IT_IS = re.compile(r"(?:^|[.\n] ?)(?:so )?it(?:'s| is| was) [\"'(]*$")
_SIDE = re.compile(r"[\"')]*[ -](?:hand )?(?:side|direction|edge|corner|part|half|hand|end)\b")
_OTHER_USE = re.compile(
    r" (?:answer|option|choice|now|away|before|after|here|there|then|one|behind|next|to|over)\b"
)
_APPROVES = re.compile(
    r"\b(?:you|your|that|this|i|we|they|he|she|it|who|all|(?:your|my) answer)"
    r"(?: ?(?:'s|'re|'m|is|are|am|was|were))?"
    r"(?: \w+ly| all| quite| so)? $"
)


_OTHER_USES = {
    "one": re.compile(
        r"\b(?:this|that|the|these|those|no|any|some|every|each|which|another|other|first|second"
        rf"|third|last|same|right|correct|wrong|only|best|next) {_MARK}"
        rf"|{_MARK} (?:of|can|could|cannot|must|should|has|may|might|another|by|who|that|which)\b"
    ),
    "first": re.compile(rf"\bat {_MARK}|^{_MARK},|[.\n] ?{_MARK},|{_MARK} (?:i|we|let)\b"),
    "second": re.compile(
        rf"\b(?:a|one|per|each|every|few|split|\d) {_MARK}|{_MARK} (?:i|we|let)\b"
    ),
}
"""Contexts in which a word is a pronoun, an adverb or a time; the mark is in its place."""


def is_other_use(before: str, after: str, option: str) -> bool:
    """Whether the word has another meaning here: ``you are right``, ``nothing is left``."""
    word = re.sub(r"^the ", "", folded(option))
    before, after = before.lower(), after.lower()
    if word in _OTHER_USES:
        return _OTHER_USES[word].search(f"{before}{_MARK}{after}") is not None
    if word not in _DIRECTIONS:
        return False
    if _SIDE.match(after):
        return False
    if word == "right" and (_OTHER_USE.match(after) or _APPROVES.search(before)):
        return re.search(r"\b(?:to|on|at|from|towards?) (?:\w+ )?$", before) is None
    leads = _LEADS_TO_DIRECTION.search(before) or (word != "right" and _IT_IS.search(before))
    return leads is None


def changes_meaning(before: str, after: str, place: int, options: Sequence[str]) -> bool:
    """Whether the words next to an option's text make it mean more, less or something else."""
    before, after = before.lower(), after.lower()
    option = folded(options[place])
    if _QUANTITY.match(option) and (
        _QUANTITY_BEFORE.search(before) or _QUANTITY_AFTER.match(after) or _SINCE.search(before)
    ):
        return True
    if option.isdecimal():
        label = re.search(r"\b(?:options?|choices?|number|alternatives?|no\.|#) ?$", before)
        if label is not None and int(option) != place + 1:
            return True  # ambiguous: the second option, or the option with the text 2
        if _NUMBER_BEFORE.search(before) or _WHILE.search(before):
            return True
    return (
        any(one.search(before) for one in (_COMPARED, _TITLE_BEFORE, _ALTERNATIVE_BEFORE))
        or any(one.match(after) for one in (_ALTERNATIVE_AFTER, _MISSING))
        or _names_another_option(before, after, place, options)
        or _is_modified(before, after, place, options)
    )


_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at is are was were be been being to and or it its he she they there here"
        " this that which who what with by for from as has have had does do did not no i we you see"
        " sees seen shows show showing think believe say says because since but so near beside"
        " behind under over color colour very just only still also clearly probably likely my his"
        " her their our can could would will may might must should looks look seems"
        " appears feels gets became becomes remains stays turns turned visible video clip image"
        " scene",
    )
)
_CLAUSE_BEFORE = re.compile(
    r"[.!?;:,\n]|\b(?:but|because|since|so|therefore|thus|than|not|unlike|of|while|although)\b"
)
_CLAUSE_AFTER = re.compile(
    r"[.!?;:\n]|,(?! then\b)|\b(?:because|since|not|as|than|unlike|while|although|which|that"
    r"|who|where|when)\b"
)
_MAX_BENT = 3
"""Words; longer option texts are rarely part of another meaning."""


_ALSO = re.compile(r"[\"')]*,? (?:and|or|but|then)(?: (?:also|then|he|she|it|they|perhaps))* (\w+)")


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _names_another_option(before: str, after: str, place: int, options: Sequence[str]) -> bool:
    """Whether the clause also contains a word in which another option differs."""
    own = set(_words(folded(options[place])))
    others = {word for one in options for word in _words(folded(one))} - own - _FUNCTION_WORDS
    if len(own) > _MAX_BENT:
        also = _ALSO.match(after)
        return also is not None and also[1] in others
    begins_clause = _CLAUSE_BEFORE.match(folded(options[place])) is not None
    said_before = "" if begins_clause else _CLAUSE_BEFORE.split(before)[-1]
    clause = f"{said_before} {_CLAUSE_AFTER.split(after)[0]}"
    return not others.isdisjoint(_words(clause))


def _is_modified(before: str, after: str, place: int, options: Sequence[str]) -> bool:
    """Whether a word modifies a text that is part of another option."""
    own = f" {' '.join(_words(folded(options[place])))} "
    longer = (f" {' '.join(_words(folded(one)))} " for one in options)
    if not any(own != one and own in one for one in longer):
        return False
    nearest = re.findall(r"(\w+) (?:(?:the|an?) )?$", before) + re.findall(r"^ (\w+)", after)
    return not _FUNCTION_WORDS.issuperset(nearest)
