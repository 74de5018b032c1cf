"""A conversation about videos, without a screen: what was looked at, asked, answered, and kept.

    turns.py         the two things a conversation is made of: looks (frames) and turns (words)
    telling.py       what of them the model is told, and what has to be left out
    settings.py      with which model and which options
    conversation.py  look, ask, take back, change the model
    asked.py         one question on its way: it can be stopped, and it may fail
    looking.py       what can be looked at is, and what cannot is told
    moments.py       times written in answers
    journal.py       one conversation on disk, line by line
    pictures.py      the frames of a conversation on disk
    sessions.py      all conversations on disk
    resuming.py      a conversation from the disk, to go on with
    starting.py      what a conversation begins with
    transcript.py    a conversation as Markdown, JSON or a web page
    commands.py      lines that begin with a slash, and how they are completed
    carrying_out.py  what those lines do
    player.py        a video at a moment, in the system's player

The full-screen chat, the line mode and ``ask --continue`` are three faces of this.
"""

from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.running_turn import RunningTurn
from smolvideo.conversation.settings import Settings
from smolvideo.conversation.turns import Attachment, Turn

__all__ = ["Attachment", "Conversation", "RunningTurn", "Settings", "Turn"]
