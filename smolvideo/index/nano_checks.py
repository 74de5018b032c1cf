"""Checks of a query in the wordings of ``nano``'s training (``smolvideo.train.world.question``).

Its yes and no are about a colour and a shape together: asked for a shape alone, it was trained on
``no`` only. So a shape is asked for in every colour, and a colour in every shape; any confirms.
"""

import re
from collections.abc import Iterator

from smolvideo.index.checks import YES_NO, Check

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "cross")
BACKGROUNDS = ("white", "grey", "black", "brown")
DIRECTIONS = ("left", "right", "up", "down")
SIZES = ("small", "large")
_STILL = "it stands still"
_DOES = (*(f"it moves {way}" for way in DIRECTIONS), _STILL)

_COLOUR = rf"(?P<colour>{'|'.join(COLOURS)})"
_ANYTHING = "thing|object|shape|figure|something|anything|one"
_THING = re.compile(
    r"\b(?:(?:an?|the|some|any|every|each|this|that) )*"
    r"(?:(?P<moves>moving|still) )?(?:(?P<size>small|little|large|big) )?"
    rf"(?:{_COLOUR}(?: (?P<shape>{'|'.join(SHAPES)}|{_ANYTHING}))?"
    rf"|(?P<only>{'|'.join(SHAPES)}|{_ANYTHING}))(?:e?s)?\b"
    rf"(?: (?:that is |which is )?(?P<after>{'|'.join(COLOURS)})\b)?",
    re.IGNORECASE,
)
_ACTS = re.compile(
    r"\s*(?:(?:that|which|is|are|to) )*"
    r"(?:(?:moves?|moving|goes|going)\b"
    r"(?: (?:to(?: the)? )?(?P<way>left|right|up|down)(?:wards?)?\b)?"
    r"|(?P<happens>appears?|disappears?|stands? still|still|not moving)\b"
    rf"|turns? (?P<turns>{'|'.join(COLOURS)})\b)",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    rf"\b(?:on|with|in front of|before) (?:an? |the )?(?P<name>{'|'.join(BACKGROUNDS)}|gray)"
    r"(?: background)?\b"
    rf"|\b(?:an? |the )?(?P<bare>{'|'.join(BACKGROUNDS)}|gray) background\b",
    re.IGNORECASE,
)
_CAPTION = re.compile(
    r"\b(?:the )?(?:word|number|text|sign|caption)s?:? \W?(\w{1,12})\b\W?", re.IGNORECASE
)
_BARE_CAPTION = re.compile(r"\W?([A-Z]{2,12}|\d{1,6})\W?")
_WORD = re.compile(r"[^\W_]+")
_LINKS = frozenset(
    (
        *("a", "an", "and", "are", "at", "be", "beside", "find", "frame", "frames", "has", "in"),
        *("is", "it", "me", "next", "of", "on", "past", "picture", "scene", "scenes", "screen"),
        *("see", "show", "showing", "shown", "shows", "some", "that", "the", "there", "this", "to"),
        *("video", "videos", "was", "were", "where", "which", "with", "written", "says"),
    )
)
"""Words between things that ask for nothing; ``no`` and ``or`` are not among them."""


def nano_checks(text: str) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Return the checks of a query, and the words in it that none of them is about."""
    bare = _BARE_CAPTION.fullmatch(text)
    if bare and bare[1].lower() not in (*COLOURS, *SHAPES):
        return (_caption(bare[1]),), ()
    checks: list[Check] = []
    rest = text
    for pattern in (_CAPTION, _BEHIND):
        for named in pattern.finditer(rest):
            checks.append(_caption(named[1]) if pattern is _CAPTION else _background(named))
            rest = _without(rest, *named.span())
    at = 0
    while found := _THING.search(rest, at):
        acts = _ACTS.match(rest, found.end())
        at = (acts or found).end()
        made = [*_checks_of_thing(found, acts)]
        if made:
            checks += made
            rest = _without(rest, found.start(), at)
    words = dict.fromkeys(word for word in _WORD.findall(rest) if word.lower() not in _LINKS)
    return tuple(checks), tuple(words)


def _without(text: str, start: int, end: int) -> str:
    """Blank out a part; what is after it keeps its place."""
    return f"{text[:start]}{' ' * (end - start)}{text[end:]}"


def _caption(text: str) -> Check:
    return Check("What does the text say?", (text.upper(),), 0)


def _background(found: re.Match[str]) -> Check:
    name = (found["name"] or found["bare"]).lower().replace("gray", "grey")
    return Check("What colour is the background?", BACKGROUNDS, BACKGROUNDS.index(name))


def _checks_of_thing(found: re.Match[str], acts: re.Match[str] | None) -> Iterator[Check]:
    """Yield checks for a thing: whether it is there, its size, and what it does."""
    colour = (found["colour"] or found["after"] or "").lower()
    shape = (found["shape"] or found["only"] or "").lower()
    if shape not in SHAPES:
        shape = ""
    if colour or shape:
        things = [
            f"{one} {other}"
            for one in ((colour,) if colour else COLOURS)
            for other in ((shape,) if shape else SHAPES)
        ]
        first, *others = (f"Is there {_with_article(thing)}?" for thing in things)
        yield Check(first, YES_NO, 0, others=tuple(others))
    named = f"{colour} {shape or 'thing'}".strip()
    if found["size"]:
        size = SIZES[found["size"].lower() in ("large", "big")]
        yield Check(f"How big is the {named}?", SIZES, SIZES.index(size))
    yield from _checks_of_acts(found, acts, named, shape)


def _checks_of_acts(
    found: re.Match[str], acts: re.Match[str] | None, named: str, shape: str
) -> Iterator[Check]:
    """Yield checks for what a thing does."""
    act = (found["moves"] or "").lower()
    does = _STILL if act == "still" else ""
    if acts and acts["way"]:
        does = f"it moves {acts['way'].lower()}"
    elif acts and acts["turns"]:
        does = f"it turns {acts['turns'].lower()}"
    elif acts and acts["happens"]:
        word = acts["happens"].lower().rstrip("s")
        does = f"it {word}s" if word.endswith("appear") else _STILL
    elif acts or act == "moving":
        question = f"Does the {shape} move?" if shape else "Does anything move?"
        yield Check(question, YES_NO, 0, is_presence=False)
    if not does:
        return
    # "Which way does it move?" has a way for what stands still, too.
    choices = _DOES if does in _DOES else (does, _STILL)
    question = f"What does the {named} do?"
    yield Check(question, choices, choices.index(does), is_presence=False)


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
