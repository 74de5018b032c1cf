"""Wording patterns of answers, in the languages in which models answer.

Each pattern is applied to a window of bounded length. The lists need not be complete: an unknown
wording yields no answer, and these patterns alone never decide between two different letters.
"""

import re


def _any(*words: str) -> str:
    return "(?:" + "|".join(words) + ")"


NOUN = _any(
    # English
    "answers?|options?|choices?|letters?|picks?|selections?|responses?|solutions?|alternatives?",
    "statement|description|sentence|caption|guess|conclusion|verdict|ans|candidate|outputs?|results?|predictions?",
    # German, French
    "antwort(?:option|möglichkeit)?|auswahl|wahl|lösung|buchstabe|möglichkeit",
    "réponse|reponse|choix|lettre|proposition",
    # Spanish, Italian, Portuguese
    "respuesta|opción|opcion|letra|alternativa|elección|inciso|opciones",
    "risposta|opzione|lettera|scelta|soluzione",
    "resposta|opção|opcao|escolha|gabarito",
    # Dutch, Swedish, Danish, Polish, Czech, Turkish, Vietnamese, Indonesian
    "antwoord|optie|keuze|svar(?:et)?|alternativet|odpowiedź|odpowiedzią|opcja|odpověď|možnost",
    "cevap|cevabı|yanıt|seçenek|đáp án|câu trả lời|lựa chọn|jawaban(?:nya)?|pilihan|opsi",
    # Russian, Ukrainian, Arabic, Hindi
    "ответ(?:ом)?|вариант|букв[аы]|выбор|відповідь|варіант",
    "الإجابة|الجواب|الخيار|उत्तर|जवाब|विकल्प",
    # Hebrew, Greek, Romanian, Hungarian, Persian
    "התשובה|תשובה|απάντηση|răspuns(?:ul)?|válasz|پاسخ|گزینه",
)
_COPULA = _any(
    "is|was|are|'s|would be|will be|should be|must be|has to be|seems to be|appears to be|remains",
    "ist|lautet|wäre|heißt|est|serait|c'est|es|sería|è|sarebbe|é|seria|är|er|jest|to|je|là|adalah",
    "это|является|هي|هو|है|היא|הוא|είναι|este|است",
)
_ADVERB = _any(
    "definitely|clearly|obviously|certainly|surely|probably|most likely|likely|simply|just|indeed",
    "thus|therefore|hence|still|really|also|eindeutig|sicher|wahrscheinlich|also|donc|quindi",
)
_PERSON_SAYS = _any(
    r"(?:i|we)(?:'d|'ll|'m| would| will| am| have| have to)? ?"
    r"(?:think|believe|guess|say|choose|chose|pick|select|vote for|vote|go with|go for|opt for"
    r"|going with|chosen|selected|picked|conclude|answer|suspect|suppose)",
    "ich (?:wähle|nehme|denke|glaube|tippe auf|würde sagen|sage)",
    "je (?:choisis|pense|dirais|sélectionne|opte pour|prends|crois)",
    "(?:yo )?(?:elijo|escojo|selecciono|creo|pienso)",
    "(?:io )?(?:scelgo|seleziono|penso|credo|direi)",
    "(?:eu )?(?:escolho|seleciono|acho|penso|diria)|ik (?:kies|denk)|wybieram|jag väljer",
    "(?:я )?(?:выбираю|думаю|считаю|выбрал|выберу)",
)
_CONCLUDES = _any(
    "so|thus|therefore|hence|consequently|finally|definitely|clearly|obviously|certainly|probably",
    "likely|surely|yes|ok|okay|sure|conclusion|final|correct|right|daher|somit|deshalb|donc|ainsi",
    "por lo tanto|por tanto|entonces|quindi|dunque|portanto|logo|значит|следовательно|поэтому|итак",
    "rather|instead|actually|but|sondern|mais|sino|bensì|ma|mas|maar|но|а|зато",
    r"(?:no|nope|no wait|wait|hmm+|sorry|correction|oops|scratch that|on second thoughts?|overall"
    r"|nein|non|não|нет) ?[,.!:…-]+",
    "i mean|or rather|make that|overall",
    r"(?:based on|according to|judging by|from|given|considering)(?: [\w'’]{1,20}){1,8} ?[,:]",
)
_POINTS = _any(
    "it|that|this|correct|right|correct one|right one|best one|best fit|best match|one",
    "es|das|dies|richtig|korrekt|ce|cela|ça|la bonne|correcta|correcto|esto|giusta|corretta",
    "correta|certa|isso|det|to|это|верно|правильно|верный",
)
_SIGN = r"(?:[:=→⇒➡]|[-–—=]>|[-–—](?=\s|$)|:\s*[-–—])"
_THAT = r"(?:,? (?:that|dass|que|che|что))?(?:,? (?:it|es|ce|c'|sea|sia|seja|это))?"
_ARTICLES = r"(?:(?:the|die|der|das|la|le|l'|el|il|lo|a|o|de|het) ?)?"
_SOME_WORDS = r"(?: [\w'’]{1,20}){1,6}?"

DECLARES = re.compile(
    r"(?:^|(?<=[\s\"'(,.;:!?*>{}-])|(?<=\d)|(?<=[^\x00-\u04ff]))"
    + _any(
        # the (correct) answer (to the question) is (clearly) (option) | answer: | answer -
        rf"{NOUN}(?:'s)?(?: (?:key|letter|number|no\.|part))?[\"']?(?: ?{_SIGN}| {_COPULA})?",
        rf"{NOUN}{_SOME_WORDS}(?: ?{_SIGN}| {_COPULA})",
        # it's | that is | correct is | richtig ist
        rf"{_POINTS} ?(?:{_COPULA}|{_SIGN})(?: {_COPULA})?",
        r"c'est|это|è|é|es",
        # must be | has to be
        "(?:must|has to|should|would|will) be",
        # I choose | I think (that) it is
        rf"{_PERSON_SAYS}{_THAT}(?: ?{_COPULA})? ?:?",
        # choose | select, as an order to oneself
        "(?:choose|select|pick|mark|go with|going with|opt for|chose|selected)",
        # so | therefore,
        rf"{_CONCLUDES} ?[,:]?",
        # =>
        r"[→⇒➡]|[-–—=]>|∴",
    )
    + rf" ?,? ?{_SIGN}?(?: ?{_ADVERB})? ?{_ARTICLES}(?:{NOUN}(?: number| no\.)? ?[:=]? ?)?"
    + r"[\s\"'(\[{<]*$",
    re.IGNORECASE,
)
"""Text before a letter that declares it the answer, up to the letter."""

LEADS = re.compile(
    r"(?:[\w']{1,20},? ){0,6}?(?:[\w']{1,20})"
    rf"(?:(?<!\d){_SIGN}|'s\b|(?:(?<=') ?| )(?:is|was|are|ist|est|es|è|é|это)\b) ?[:]? ?(?=\S)",
    re.IGNORECASE,
)
"""A few words that introduce a statement: ``the sign is``."""

NAMES = re.compile(rf"(?:^|(?<=[\s\"'(,.;:!?>/-])){NOUN} ?[\"'(\[]?$", re.IGNORECASE)
"""Text that names a letter without declaring it the answer: ``option``."""

DECLARES_EAST = re.compile(
    _any(
        # Chinese
        r"(?:正确|最佳|最终|本题|我的|标准)?(?:的)?(?:答案|选项|选择|答|结论)"
        r"(?:应该|应|就|只能|显然|最终|可能)?(?:是|为|選|选|:|=|-)?(?:选项|选择|选)?",
        "(?:应该|应当|应|我|故|因此|所以|故而|综上|最终|而是|就是)?,?(?:选择|选项|选|選擇|選|是)",
        "(?:因此|所以|故|综上所述|综上)",
        # Thai
        "(?:คำตอบ|ตัวเลือก)(?:ที่ถูกต้อง|ที่ถูก)?(?:คือ|:)?",
        # Japanese
        "(?:正しい|最も適切な|最終的な|私の)?(?:答え|正解|解答|回答|選択肢|正答|答)"
        "(?:は|が|:|=)?(?:選択肢)?",
        "(?:したがって|よって|つまり|だから|ゆえに)",
        # Korean
        "(?:정답|답변|답|선택지|선택|옵션|보기)(?:은|는|이|:|=)?(?:옵션|선택지|보기)?",
        "(?:따라서|그러므로)",
    )
    + r"[\s:,\"'(\[{<-]*$"
)
AFFIRMS_EAST = re.compile(
    r"[\s)\]}>\"']*"
    + _any(
        "(?:选项|项)?(?:是|为|才是)?(?:最)?(?:正确|对的|最佳|合适|符合|答案)",
        "(?:です|である|だと思|が正し|が正解|が答え|を選|が最も|が適切|だ(?![っけ]))",
        r"(?:选项|項|项|번)(?=[\s.。!]*$)",
        "(?:번|이|가)? ?(?:정답|맞|옳|올바)",
        "(?:번)?(?:입니다|이다|예요|이에요|이라고|를 선택|을 선택|를 고|을 고)",
    )
)
DENIES_EAST_BEFORE = re.compile("不|没|沒|非|错|除|无|無|否|别")
DENIES_EAST_AFTER = re.compile(
    r"[\s)\]}>\"']*"
    + _any(
        "(?:选项|項|项)?(?:都|也|显然|可能)?(?:是|为)?(?:不|错|錯|误|誤|非)",
        "(?:で(?:は|も)|じゃ|は|が|も|を)?.{0,4}?"
        "(?:ない|なく|なかっ|ありません|間違|違い|誤り|不正解|以外|除)",
        "(?:번)?(?:이|가|은|는|도|를)? ?(?:정답이|답이|정답은|답은|맞지|옳지)? ?"
        "(?:아니|아닌|아닙|않|틀|오답|제외)",
    )
)

_CONTRASTS = (
    "rather than|instead of|as opposed to|other than"
    "|anything but|all but|everything but|nothing but"
    "|plutôt que|au lieu d|en lugar de|en vez de|invece d|em vez de|anstatt|statt|вместо|außer|sauf"
    "|excepto|tranne|exceto|salvo|except|excluding|without|кроме|behalve"
)
DENIES_BEFORE = re.compile(
    r"\b"
    + _any(
        r"not(?! (?:only|just|merely)\b)|\w+n't|cannot|cant|dont|isnt|never|nobody|no one",
        rf"neither|nor|none|{_CONTRASTS}",
        r"no(?!\s*[,.!?:;]|\w| doubt\b| question\b)|far from|hardly|barely|deny|denied",
        "reject(?:s|ed)?",
        r"rul(?:e|es|ed|ing) out|eliminat\w+|exclud\w+|discard\w*|dismiss\w*|wrong|incorrect|false",
        "unlikely|impossible|mistaken|doubt(?!less)",
        "nicht(?! nur)|kein(?:e|en|er|em|es)?|niemals|nie|weder|noch|falsch\\w*|ohne",
        "pas(?! seulement)|ni|jamais|aucune?|sans|faux|fausse|incorrecte?",
        "nunca|ningun[ao]?|ninguna|sin|incorrect[ao]s?|fals[ao]s?|non(?! solo)|né|mai|nessun[ao]?",
        "senza|sbagliat[aoie]|errat[aoie]|não(?! só)|nao|nem|nenhum[a]?|sem|errad[ao]s?",
        "niet|geen|fout|nie|nije|değil|yanlış|không|bukan|ikke|inte",
        r"не(?! только)|ни|нет(?!\s*[,.!?])|без|неверн\w+|неправильн\w+|ошибочн\w+|исключ\w+",
    )
    + r"\b",
    re.IGNORECASE,
)
BREAKS = re.compile(
    r"(?<!thing )(?<!all )\bbut\b|\bhowever\b|\binstead\b(?! of)|\brather\b(?! than)"
    r"|\b(?:so|therefore|thus|hence|because|since|yes|sondern|mais|sino|bensì|mas|maar|но|зато)\b"
    r"|(?<=[\s,])а(?= )(?! не)"
    rf"|[,–—-] ?{_ARTICLES}(?:{_POINTS} ?(?:{_COPULA})\b|c'est|это\b|è\b"
    rf"|(?:\w{{1,12}} )?{NOUN} ?(?:{_COPULA}\b|:)|i (?:think|choose|pick|say)\b)"
    "|而是|应该是|应是|所以|因此|而应|ではなく|じゃなくて|아니라",
    re.IGNORECASE,
)
"""After it an earlier negation no longer counts: ``it is not B, it is C``."""

_BE = _any(
    r"is|are|was|were|'s|be|seems?|looks?|appears?|does|do|did|can|could|would|will|has|must|might",
    "ist|sind|wäre|kann|est|sont|n'est|es|son|è|sono|é|são|jest|является|это",
)
DENIES_AFTER = re.compile(
    r"[\s)\]}>\"',]*"
    + _any(
        rf"(?:is|are|was|were|does|do|did|ca|could|would|wo|has)n't\b|cannot\b|isnt\b|doesnt\b"
        rf"|{_BE} (?:[\w']{{1,15}} ){{0,3}}?"
        r"(?:not|never|wrong|incorrect|false|ruled out|excluded|eliminated|rejected|unlikely"
        r"|impossible|out|no|mistaken|inaccurate|nicht|falsch|kein\w*|pas|faux|fausse|incorrect\w*"
        r"|incorrecta|falsa|sbagliat\w|errat\w|errad\w|nie|не|неверн\w+|неправильн\w+)\b",
        r"(?:ne|n'est|no|non|não|не) (?:\w{1,12} ){0,2}?(?:pas|es|est|è|é|sono|corrett\w|correct\w"
        r"|corret\w|подходит|верн\w+|правильн\w+|может)\b|n'est pas\b",
        r"[-–—:(=\[]* ?(?:not (?:correct|right|true|possible|likely|it\b|this|the (?:answer|right))"
        r"|wrong\b|incorrect\b|false\b|falsch\b|faux\b|fausse\b|incorrecta\b|sbagliat\w\b|errad\w\b"
        r"|неверно\b|неправильн\w+|no\b(?=\s*[,.;!?)\n]|$)|✗|✘|❌|×|✖)",
        r"\?+ ?(?:no|nope|nah|nein|non|não|нет|not|hardly|never)\b",
    ),
    re.IGNORECASE,
)
AFFIRMS = re.compile(
    r"[\s)\]}>\"']*(?:[-–—:=(]* ?)"
    + _any(
        rf"(?:(?!are|were|sont|son\b|são|sind){_BE} )(?:[\w']{{1,15}} ){{0,2}}?"
        r"(?:correct|right|best|answer|true|accurate|choice"
        r"|option|one|fit|match|richtig\w*|korrekt\w*|antwort|juste|bonne|exacte?|correcta?|corretta?"
        r"|giust[ao]|esatt[ao]|cert[ao]|corret[ao]|respuesta|réponse|risposta|resposta)\b",
        rf"{_BE} (?:the )?most (?:likely|plausible|accurate|appropriate|suitable)\b",
        r"(?:best )?(?:matches|fits|describes|corresponds)\b|it is\b",
        r"(?:correct|right|true|richtig|korrekt|верно|правильно|верный|правильный)\b|✓|✔|✅|☑|है",
    ),
    re.IGNORECASE,
)
"""Text after a letter that declares it the answer."""

REASONS = re.compile(
    r"[\s)\]}>\"',]*"
    + _any(
        r"because|since|as (?:it|the|he|she|they|we|can|this|that|opposed)\b|for the reason|due to",
        r"\(?(?:i (?:think|guess|believe|suppose)|of course|definitely)\b|\((?!or\b|and\b)",
        r"(?:and |but )?not\b|rather than|instead of|weil|da\b|denn|parce que|car\b"
        r"|porque|ya que|perché|poiché|pois|потому|так как|omdat|因为|이유|왜냐",
    ),
    re.IGNORECASE,
)
_TAKES_BACK = (
    "no|nope|wait|actually|correction|sorry|oops|hmm+|hm|let me correct|my mistake"
    "|nein|halt|moment|non|attendez|en fait|perdón|não|aliás|anzi|нет|точнее|вернее|стоп"
    "|不对?|不是|いや|いえ|아니요?"
)
_IN_PLACE = "scratch that|i mean|or rather|make that|on second thoughts?"
RETRACTS = re.compile(
    r"(?:^|[\s.,;:!?)\"'…–—-])"
    rf"(?:(?:(?:{_TAKES_BACK})(?: wait)?[ ]?[,.!:;…–—-]+|(?:{_IN_PLACE})\b,?)[ ]?)+"
    rf"(?:{_ARTICLES}[\w' .,]{{0,60}}[:=]?\s*)?[\"'(\[]*$",
    re.IGNORECASE,
)
"""Text between a retracted answer and its replacement."""

DOUBTS = re.compile(
    r"[\s)\]}>\"']*[.,!?…–—-]+\s*"
    r"(?:no|nope|wait|hmm+|actually,? no|no,? wait|nein|non|нет)\s*[.!?…]*\s*$",
    re.IGNORECASE,
)
"""A retraction without a replacement, at the end of the text."""

JOINS = re.compile(
    r"[\s)\]}>\"',/&+|(\[{<:、，-]*"
    r"(?:(?:and|or|nor|und|oder|noch|et|ou|ni|y|o|e|u|né|nem|i|en|of|и|или|ни|и/или|和|或者|或|与|及"
    r"|と|や|か|または|과|와|또는|및|vs\.?|versus|plus|and/or|as well as|then)(?![\w]))?"
    rf"[\s,]*(?:(?:both|also|the|maybe|possibly|perhaps|{NOUN})\s*)*[\s\"'(\[{{<]*$",
    re.IGNORECASE,
)
"""Text that only joins the members of a list."""

JOINED = re.compile(
    r"[\s)\]}>\"'.,:]*(?:or|and|nor|und|oder|noch|et|ou|ni|y|o|e|u|en|of|и|или)\b(?! not\b)"
    r"|[\s,]*but (?:also|maybe|possibly|perhaps)\b"
    r"|[\s)\]}>\"'.,:;]*(?:[、和或与及]|または|또는|및)",
    re.IGNORECASE,
)
"""Text that adds a second answer instead of replacing the first."""

FOLLOWS_A_LETTER = re.compile(
    r"\s+(?:is|isn't|are|aren't|was|wasn't|were|does|could|should|might|would"
    r"|because|since|as|and|or|nor|not|but|rather|instead|seems"
    r"|appears|best|matches|fits|describes|und|oder|ist|et|ou|est|y|o|es|e|è|é|и|или|it|the|correct|vs)\b",
    re.IGNORECASE,
)
"""Words that cannot begin a noun phrase: an ``A`` before them is not an article."""

REFUSES = re.compile(
    r"\b(?:sorry|cannot|can't|can not|unable to|not able to|not possible to|impossible to|"
    r"do(?:es)? not (?:provide|show|contain)|not enough information|no information)\b",
    re.IGNORECASE,
)
