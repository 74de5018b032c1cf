"""Sentences of the program in the words of a conversation: commands in place of options."""

import re

_IN_CHAT = (
    (re.compile(r"`?--model ([\w./-]+)`?"), r"`/model \1`"),
    (re.compile(r"`?--max-frames (\d+)`?"), r"`/frames \1`"),
    (re.compile(r"`--max-frames`"), "`/frames`"),
    (re.compile(r"`--subtitles ([\w./-]+)`"), r"`/subtitles \1`"),
    (re.compile(r"`--start` and `--end`"), "`/zoom`"),
)
"""Options for which there is a command; others can be given when the conversation begins."""


def in_chat(sentence: str) -> str:
    """``sentence`` as a person in a conversation can act on it.

    >>> in_chat("for real footage use `--model smolvlm2-256m`")
    'for real footage use `/model smolvlm2-256m`'
    """
    for option, command in _IN_CHAT:
        sentence = option.sub(command, sentence)
    return sentence
