"""Question prompts, answer extraction and scoring rules of the benchmarks.

``extract`` maps an answer text to an option or to none; nothing is ever guessed. Extractors:

``lenient``   ours: a letter in any of the usual notations, or the text of exactly one option
              (lenient.py)
``official``  the rule of the tool that publishes scores of the benchmark; each rule can also be
              selected by its own name (official_rules.py)

extract.py selects the extractor; prompts.py has the named prompts, character by character as their
sources publish them.

Modules of ``lenient``, in the order of processing:

normalize.py       the text after reasoning blocks, tags, boxes and JSON; one spelling of widths,
                   quotation marks, dashes and markup
option_texts.py    matching of a whole text with an option, marks where options are named, and words
                   next to an option's text that change its meaning
mentions.py        letters and texts that an answer names, and the role of each
relations.py       which mentions belong together, and which are negated
hedging.py         verdicts, examples, hypotheses, questions
answer_phrases.py  patterns for the wording of answers in many languages
"""

from smolvideo.evals.protocol.extract import (
    EXTRACTORS,
    ExtractedChoice,
    ExtractorName,
    extract,
    extractor_for,
    letters_known,
)
from smolvideo.evals.protocol.prompts import PROMPTS, check_prompt, format_question

__all__ = [
    "EXTRACTORS",
    "PROMPTS",
    "ExtractedChoice",
    "ExtractorName",
    "check_prompt",
    "extract",
    "extractor_for",
    "format_question",
    "letters_known",
]
