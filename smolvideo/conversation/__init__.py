"""Multi-turn conversations about videos, without a user interface.

    turns.py         data types: model and options, attachments (frames of a source), turns
    context.py       the messages in the context, and trimming to its budget
    conversation.py  attach sources, ask, undo, switch the model
    timestamps.py    timestamps in answers, and playing a video from one
    event_log.py     one conversation on disk, as JSON lines and PNG
    store.py         all conversations on disk
    resume.py        attach new sources, or restore a saved conversation
    export.py        export as Markdown, JSON or HTML
    commands.py      slash commands: grammar, completion and effects

The full-screen chat, the line mode and ``ask --continue`` share this package.
"""

from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.turns import Attachment, RunningTurn, Settings, Turn

__all__ = ["Attachment", "Conversation", "RunningTurn", "Settings", "Turn"]
