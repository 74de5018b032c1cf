"""Hedged answers: verdicts after an answer, retractions, examples, hypotheses, questions."""

import re
from typing import NamedTuple

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


class Retraction(NamedTuple):
    """The last clause that takes back what is ``before`` it; ``rest`` is the text after it.

    ``is_verdict``: it says that something is wrong, which agrees with an answer ``no``.
    """

    before: str
    rest: str
    is_verdict: bool


_CLAUSE = re.compile(
    r"(?:(?!\s(?:but|aber|mais|pero|ma|mas|но)\s)"
    r"(?:[^.!?;,:\n\u3002\u3001\u2026()\[\]\u2013\u2014-]|(?<=\w)-(?=\w)))+"
)
_JOINTS = " ,;:\n\u3001\u3002\u2026\u2013\u2014-"
_MAX_CLAUSE = 80
"""Maximum characters of a clause that only takes an answer back."""
_SO_FAR = (
    r"(?:(?:no|oh|ah|oops|wait|well|hmm+|but|and|so|ok|okay|sorry|actually|however|clearly|nein|ach"
    r"|aber|non|mais|pero|нет|ой|но) )*"
)
_ANSWER = (
    r"(?:it|this|that|which|(?:the|my|this|that)(?: (?:first|last|previous))?"
    r" (?:answer|statement|claim|choice|option|guess|response))"
)
_RETRACTING = (
    r"(?:i(?:'m| am| was)? )?(?:(?:just|only) )?(?:kidding|joking|teasing|mistaken|lying|wrong)"
    r"(?: about (?:it|that|this))?"
    r"|(?:lol )?(?:jk|j/k|psych|sike)|o+ps|whoops|hmm+|wait|hold on|hang on"
    r"|or (?:is|isn't) (?:it|that)"
    r"|(?:i )?(?:lied|misspoke|misread(?: it| that)?|erred"
    r"|(?:take|took) (?:it|that|this|everything) back|take back what i (?:said|wrote)"
    r"|(?:retract|withdraw)(?: (?:it|that|this))?|made (?:a|an) (?:mistake|error)"
    r"|got (?:it|that|this) wrong|(?:have )?changed? my mind)"
    r"|never ?mind(?: that| it)?|(?:please )?(?:ignore|disregard|forget|scratch|strike|cancel|scrap"
    r"|delete|undo)(?: (?:it|that|this|everything|(?:my|the)(?: (?:last|previous))? answer"
    r"|what i (?:said|wrote)))?|my (?:bad|mistake|error)|think again|or (?:maybe |perhaps )?not"
    r"|let me (?:re-?\w+|think|check|look|try|see)(?: (?:it|this|that))?"
    r"(?: again| once more| over)?"
    # German
    r"|(?:das )?(?:war |ist )?(?:nur |bloß )?(?:ein(?:e)? )?(?:kleiner )?"
    r"(?:spaß|scherz|witz|quatsch|unsinn|blödsinn|irrtum|versehen|lüge)|doch nicht|moment(?: mal)?"
    r"|halt|warte(?:n sie)?(?: mal)?|ich hab(?:e)? mich (?:geirrt|vertan|getäuscht|versprochen)"
    r"|ich (?:irre mich|lag falsch|nehme (?:das|es) zurück)|vergiss (?:es|das)"
    r"|vergessen sie (?:es|das)|streich(?:e)? das"
    # French
    r"|n'importe quoi|(?:je |c'était |c'est )?(?:pour |une )?(?:plaisante|blague|rigole|rire)"
    r"|je (?:me suis tromp[ée]e?|me trompe|retire)(?: (?:ça|cela|ce que j'ai dit))?|j'ai menti"
    r"|oublie[zs]?(?: (?:ça|cela))?|attend(?:s|ez)|(?:en fait|finalement) (?:non|pas)"
    # Spanish, Italian, Portuguese
    r"|(?:es |era |è |era |é )?(?:(?:una|uno|un|uma) )?(?:broma|scherzo|brincadeira)"
    r"|(?:estoy |sto |estou )?(?:bromeando|bromeo|scherzando|brincando)"
    r"|me (?:equivoqué|equivoco|he equivocado|enganei)|estaba equivocad[oa]|mentí|lo retiro"
    r"|olvíd(?:alo|elo)|olvida(?: eso)?|espera|espere|mi sono sbagliat[oa]|mi sbaglio|esqueça"
    # Russian
    r"|(?:это (?:была )?)?(?:шучу|шутка|пошутил[аи]?)|я (?:ошиб(?:ся|лась|аюсь)|соврал[а]?"
    r"|(?:был[а]? )?не ?прав[а]?)|(?:хотя|впрочем)(?: нет)?|забудь(?:те)?(?: об этом)?"
    r"|беру (?:свои )?слова (?:обратно|назад)|стоп|подожди(?:те)?|погоди(?:те)?|отмена"
    # Chinese, Japanese, Korean
    r"|(?:我)?(?:是)?(?:开玩笑|開玩笑|骗你|騙你)(?:的|啦|而已)?|我?(?:说|弄|搞|看)?[错錯]了|当我没说"
    r"|我?收回.{0,8}|更正|等等|等一下|算了|忘了(?:它|吧)"
    r"|(?:やっぱり)?(?:やめた|やめます)|冗談.{0,4}|嘘(?:です|だ)?|取り消し.{0,3}|訂正.{0,3}"
    r"|忘れて(?:ください)?|待って(?:ください)?|(?:私が)?間違えま?した|間違えた"
    r"|농담.{0,5}|취소.{0,5}|정정.{0,5}|거짓말.{0,5}|잠깐만?|잘못 .{0,8}|(?:제가|내가) 틀렸.{0,4}"
    r"|잊어.{0,6}"
)
_VERDICT = (
    rf"(?:{_ANSWER}(?: is|'s| was| seems| looks| would be)? )?(?:\w+ly )?"
    r"(?:not (?:right|correct|true|it|so|the case|accurate|valid|the (?:right |correct )?answer)"
    r"|wrong|incorrect|false|untrue|inaccurate|nonsense|an? (?:lie|mistake|error|joke))"
    rf"|{_ANSWER} (?:is|was|does|did)(?: not|n't)(?: (?:it|so|right|correct|true|accurate|valid"
    r"|the case|the (?:right |correct )?answer))?"
    r"|(?:quite |just )?the opposite(?: is (?:true|right|correct|the case))?|on the contrary"
    r"|(?:actually |maybe |perhaps )?not(?: really| at all)?|no way|i (?:don't|do not) think so"
    r"|i (?:doubt (?:it|that)|disagree)|on second thoughts?(?: no)?"
    r"|(?:das|es|dies|die antwort) (?:ist|war|wäre) (?:leider |aber )?(?:falsch|unwahr|gelogen"
    r"|nicht (?:richtig|wahr|korrekt|so))|(?:das |es )?stimmt (?:so |aber |doch )?nicht|falsch"
    r"|(?:c'est|c'était|cette réponse est|la réponse est) (?:faux|fausse|incorrecte?|inexact"
    r"|une erreur)|ce n'est pas (?:correct|vrai|juste|exact|ça|cela|la bonne réponse)|faux"
    r"|(?:(?:eso|esto|la respuesta|questo|isso|a resposta) )?(?:es|era|está|è|é|está) (?:fals[oa]"
    r"|incorrect[oa]|mentira|un error|mal|erróne[oa]|equivocad[oa]"
    r"|sbagliat[oa]|errat[oa]|errad[oa])"
    r"|(?:(?:eso|esto|la respuesta|questo|isso) )?(?:no es|non è|não é) (?:correct[oa]|verdad"
    r"|ciert[oa]|así|vero|corrett[oa]|giust[oa]|verdade|corret[oa])"
    r"|(?:(?:это|ответ) )?(?:неверно|не ?верн\w+|неправда|не правда|неправильн\w+|не правильн\w+"
    r"|не так|ложь|ошибка)"
    r"|(?:[这這那它]|答案|刚才|剛才)?(?:是|也)?(?:[错錯]|不[对對]|不正确|不正確|[错錯][误誤])(?:的|了)?|不是"
    r"|(?:それは|これは|やっぱり)?(?:違(?:います|う|った)|間違い(?:です|でした|だ)?|嘘(?:です|だ))"
    r"|(?:그건|그것은|이것은|그게|이건) ?(?:틀|아니|아닙|잘못).{0,6}|틀(?:렸|린).{0,5}"
    r"|아니(?:요|오|다|야|에요)?|아닙니다"
)
_TAKES_BACK_ALL = re.compile(rf"{_SO_FAR}(?:{_RETRACTING})", re.IGNORECASE)
_FINDS_WRONG = re.compile(rf"{_SO_FAR}(?:{_VERDICT})", re.IGNORECASE)


def last_retraction(text: str) -> Retraction | None:
    """Return the last clause of ``text`` that only says that what is before it does not hold.

    None if there is none. ``Scratch that``, ``I was wrong``, ``that is not true``.
    """
    clauses = [*_CLAUSE.finditer(text)]
    verdicts = [_is_verdict(found[0]) for found in clauses]
    last = max((at for at, one in enumerate(verdicts) if one is not None), default=0)
    first = last
    while first > 1 and verdicts[first - 1] is False:  # Wait, that is wrong.
        first -= 1
    if first == 0 or verdicts[last] is None:
        return None
    before, rest = text[: clauses[first].start()], text[clauses[last].end() :]
    is_verdict = all(verdicts[first : last + 1])
    return Retraction(before.rstrip(_JOINTS), rest.lstrip(_JOINTS), is_verdict)


def _is_verdict(clause: str) -> bool | None:
    """Whether a retracting clause is a verdict; None for other clauses."""
    clause = clause.strip(" \"'*")
    if not 0 < len(clause) <= _MAX_CLAUSE:
        return None
    if _TAKES_BACK_ALL.fullmatch(clause):
        return False
    return True if _FINDS_WRONG.fullmatch(clause) else None


_QUESTION_MARKS = "?\uff1f\u061f\u037e\u2047\u2048"
_ENDS_AS_QUESTION = re.compile(
    rf"[{_QUESTION_MARKS}]|(?:[吗嗎]|です(?:か|よね)|でしょうか|かな|かしら|입니까|습니까|인가요?|일까요?)"
    r"(?=[\s\"')\]。.!]*$)"
)
_ASKS_BACK = re.compile(
    r"^\W*(?:so |but |and )?(?:is|are|was|were|does|do|did|isn't|doesn't|ist|war|est-ce que|is it)"
    r" (?:it|this|that|the|he|she|they|there|es|das|die|der)\b",
    re.IGNORECASE,
)


def is_question(text: str) -> bool:
    """Whether a whole text ends with a question mark: ``red?``, ``(B)?!``."""
    return text.rstrip(" \n\t\"'()[]{}.!*_\u3002\u201d\u300d").endswith((*_QUESTION_MARKS,))


def is_asked(before: str, after: str) -> bool:
    """Whether the sentence of a mention is a question; one inside quotation marks is not."""
    if _ASKS_BACK.match(_STOP.split(before)[-1]):
        return True
    sentence = _ENDS_OF_SENTENCE.split(after)[0]
    mark = _ENDS_AS_QUESTION.search(sentence)
    if mark is None:
        return False
    last_quote = after.rfind('"')
    return last_quote < mark.start() or after[: mark.start()].count('"') % 2 == 0


_ENDS_OF_SENTENCE = re.compile(r"[.!;\n\u3002](?=\s|$|[^\x00-\u04ff])")

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
