"""How a question is asked, how its answer is read, and when it is right.

prompts.py   named prompts, character by character those of their sources
extract.py   named extractors: from a text to the option that it means; the rules of others are in
             official_rules.py, ours in lenient.py, with the modules below it

In the order of an answer's way under ``lenient``:

enclosed.py      tags, boxes and JSON, and what comes behind the thoughts
canonical.py     one spelling of widths, quotation marks, dashes and markup
option_texts.py  a text that is an option, and marks where one is named
neighbours.py    words beside an option's text that make it something else
mentions.py      letters and texts, and what their places say of them
relations.py     which of these belong together, and which are denied
doubts.py        verdicts, examples, hypotheses, questions
wording.py       how answers are worded, in many languages: patterns for all of these
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
