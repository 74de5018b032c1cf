"""Hedged answers: verdicts after an answer, examples, hypotheses, questions."""

import re

_WRONG = (
    r"(?:wrong|incorrect|false|untrue|mistaken|inaccurate|ruled out|excluded|eliminated|rejected"
    r"|impossible|unlikely|falsch|faux|fausse|incorrect[ao]|fals[ao]|sbagliat[ao]|errad[ao]"
    r"|not (?:correct|right|true|possible|likely|shown|seen|visible|present|supported|valid"
    r"|the (?:correct |right )?answer)"
    r"|неверно|неправильно)\b"
)
_IT_IS = r"(?:it|this|that|which|the answer)(?:'s| is| was| seems| looks)"

DENIED_LATER = re.compile(
    rf"[\s)\]}}>\"']*[.,:;!\u2013\u2014-]*\s*[(\[]?(?:(?:no|nope|wait|but)[,.!]? )?(?:{_IT_IS} )?"
    rf"(?:(?:clearly|definitely|obviously|probably|also|actually) )?"
    rf"(?:{_WRONG}|no (?:evidence|proof|sign|support)\b)",
    re.IGNORECASE,
)
"""A negative verdict directly after an answer, in its sentence or the next."""

_TAKEN_BACK = re.compile(
    rf"(?:^|[\s.,;!?\u2013\u2014-]){_IT_IS} (?:[a-z]+ly )?{_WRONG}[\s.!)]*$", re.IGNORECASE
)
_NO_ANSWER = re.compile(
    r"\b(?:there(?:'s| is| are)|has|have|sees?) no (?:(?:correct|right|valid|good|true) )?"
    r"(?:answers?|options?|choices?)\b"
    r"|\bnone of (?:the|these|those|them)(?: (?:given|above|listed))?"
    r"(?: (?:answers?|options?|choices?))? (?:is|are|fits?|match(?:es)?|applies|apply)\b"
    r"|\bno (?:correct|right|valid) (?:answer|option|choice)\b",
    re.IGNORECASE,
)
_NEGATED_SIGN = re.compile(r"(?:(?:^|(?<=[\s(:=\"']))!=?|[\u00ac\u2260~])\s?[(\[\"']?[A-Z](?!\w)")
_ASKS_FOR_WRONG = re.compile(
    r"\b(?:which|what)\b[^.!?\n]{0,80}\b(?:wrong|incorrect|false|not)\b[^.!?\n]{0,80}\?",
    re.IGNORECASE,
)


_LEFT_OPEN = re.compile(
    r"\bor (?:maybe|perhaps|possibly) not\b|\bor not\s*[.?!]*$"
    r"|\bor (?:something|someone|somewhere) (?:else|similar)\b"
    r"|[.!?\u2026]\s*(?:(?:oh|hmm+),? )?(?:no,? wait|wait,? no|scratch that)\b[\s.!\u2026]*$"
    r"|\?\s*(?:no|nope|nein|non|нет|не|いいえ|아니요)\s*[.!]*$"
    r"|\bnone of the (?:\w+ )?(?:answers|options|choices)\b|\bi disagree\b[\s.!]*$",
    re.IGNORECASE,
)


def left_open(text: str) -> bool:
    """Whether the text retracts all it said."""
    return _LEFT_OPEN.search(text) is not None


def withheld(text: str) -> bool:
    """Whether the text says that its answer, or every option, is wrong."""
    return any(
        one.search(text) for one in (_TAKEN_BACK, _NO_ANSWER, _NEGATED_SIGN, _ASKS_FOR_WRONG)
    )


_EXAMPLE = re.compile(
    r"(?:\be\. ?g\.|\beg\b|\bfor (?:example|instance)\b|\bz\. ?b\.|\bzum beispiel\b"
    r"|\bpar exemple\b|\bpor ejemplo\b|\bper esempio\b|\bpor exemplo\b"
    r"|\b\u043d\u0430\u043f\u0440\u0438\u043c\u0435\u0440\b"
    r"|\bp\. ?ex\.|例如|比如|例えば|たとえば|예를 들어)[^.!?\n]{0,80}$",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"^\W*(?:(?:but|and|so|then) )?(?:if (?!(?:i|we|you)\b|asked|forced)|unless\b|suppos(?:e|ing)\b"
    r"|assuming\b|wenn\b|falls\b|si (?!c'est)|если\b|如果|假如|もし|만약)",
    re.IGNORECASE,
)
_FORMERLY = re.compile(
    r"\b(?:at first|initially|originally|previous(?:ly)?|earlier|former(?:ly)?|i used to)\b",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    r"\b(?:worst|least|avoid\w*|refus\w+|declin\w+|mauvais\w*|pire|peor\w*|pior|peggior\w*"
    r"|schlechtest\w*|худш\w+|найменш\w+)\b|誤|間違|まちが|틀린|틀렸|잘못|오답",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"^\W*(?:so |but |and )?(?:should|shall|could|can|may|might|would|do|does|did|is|are|am|was"
    r"|why|how)\b",
    re.IGNORECASE,
)
_STOP = re.compile(r"[.!?;\n\u3002\uff01\uff1f]")
_ASKED = re.compile(r"[\s)\]}>\"']*(?:[^.!?\n]{0,60})\?")


def hypothetical(before: str, clause: str, after: str) -> bool:
    """Whether the text before an answer makes it an example, a hypothesis or a question."""
    sentence = _STOP.split(before)[-1]
    if _EXAMPLE.search(before) or _SUPPOSED.search(sentence):
        return True
    if _FORMERLY.search(clause) or _NEGATIVE.search(clause):
        return True
    return _ASKS.match(clause) is not None and _ASKED.match(after) is not None


KNOWS_NOTHING = re.compile(
    r"\b(?:i|we)(?:'m| am)? (?:cannot|can't|can not|could not|couldn't|do not|don't|did not|didn't"
    r"|unable to|not able to) (?:\w+ )?(?:see|view|watch|know|access|answer|tell|determine|say|open"
    r"|play|have|find|process|analy[sz]e|understand)\b"
    r"|\b(?:i|we)(?:'m| am) (?:not sure|unsure|unable|sorry)\b"
    r"|\b(?:can|happy to|glad to|ready to|here to) (?:help|assist)\b"
    r"|\bplease (?:share|provide|upload|send|attach)\b|\b(?:sorry|apologi[sz]e)\b",
    re.IGNORECASE,
)
"""Text after a yes or no that makes it part of small talk instead of an answer."""
