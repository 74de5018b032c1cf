"""Question prompts, answer extraction and scoring rules of the benchmarks.

prompts.py   named prompts, character by character as their sources publish them
extract.py   named extractors: from a text to an option; other tools' rules are in
             official_rules.py, ours is in lenient.py and the modules below

Modules of ``lenient``, in the order of processing:

delimited.py       tags, boxes and JSON, and the text after reasoning blocks
normalize.py       one spelling of widths, quotation marks, dashes and markup
option_texts.py    matching of a whole text with an option, and marks where options are named
neighbours.py      words next to an option's text that change its meaning
mentions.py        letters and texts that an answer names, and the role of each
relations.py       which mentions belong together, and which are negated
hedging.py         verdicts, examples, hypotheses, questions
answer_phrases.py  patterns for the wording of answers in many languages
"""

from smolvideo.evals.protocol.extract import EXTRACTORS, ExtractedChoice, extract, extractor_for
from smolvideo.evals.protocol.prompts import PROMPTS, QuestionText, check_prompt, format_question

__all__ = [
    "EXTRACTORS",
    "PROMPTS",
    "ExtractedChoice",
    "QuestionText",
    "check_prompt",
    "extract",
    "extractor_for",
    "format_question",
]
