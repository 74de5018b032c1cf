"""How a question is asked, how its answer is read, and when it is right.

prompts.py   named prompts, character by character those of their sources
extract.py   named extractors: from a text to the option that it means; the rules of others are in
             official_rules.py, ours in lenient.py, with canonical.py, option_texts.py, enclosed.py
             and wording.py
"""

from smolvideo.evals.protocol.extract import EXTRACTORS, Extracted, extract, extractor_for
from smolvideo.evals.protocol.prompts import PROMPTS, Asked, ask_item, check_prompt

__all__ = [
    "EXTRACTORS",
    "PROMPTS",
    "Asked",
    "Extracted",
    "ask_item",
    "check_prompt",
    "extract",
    "extractor_for",
]
