"""How a question is asked, how its answer is read, and when it is right.

prompts.py   named prompts, character by character those of their sources
extract.py   named extractors: from a text to the option that it means
"""

from smolvideo.evals.protocol.extract import EXTRACTORS, Extracted, extract
from smolvideo.evals.protocol.prompts import PROMPTS, Asked, ask_item, check_prompt

__all__ = [
    "EXTRACTORS",
    "PROMPTS",
    "Asked",
    "Extracted",
    "ask_item",
    "check_prompt",
    "extract",
]
