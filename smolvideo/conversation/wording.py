"""Reword messages for the chat: slash commands instead of command-line options."""

import re

_IN_CHAT = (
    (re.compile(r"`?--model ([\w./-]+)`?"), r"`/model \1`"),
    (re.compile(r"`?--max-frames (\d+)`?"), r"`/frames \1`"),
    (re.compile(r"`--max-frames`"), "`/frames`"),
    (re.compile(r"`--subtitles ([\w./-]+)`"), r"`/subtitles \1`"),
    (re.compile(r"`--start` and `--end`"), "`/zoom`"),
)
"""Options that have a slash command; others can only be set when the chat is started."""


def in_chat(sentence: str) -> str:
    """Replace options in ``sentence`` by the slash commands that a chat user can type.

    >>> in_chat("for real footage use `--model smolvlm2-256m`")
    'for real footage use `/model smolvlm2-256m`'
    """
    for option, command in _IN_CHAT:
        sentence = option.sub(command, sentence)
    return sentence
