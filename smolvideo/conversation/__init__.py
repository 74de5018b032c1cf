"""Multi-turn conversations about videos, without a user interface.

    turns.py         data types: attachments (frames of a source) and turns (question, answer)
    context.py       the messages in the context, and trimming to its budget
    settings.py      model and options
    conversation.py  attach sources, ask, undo, switch the model
    running_turn.py  one running question: streaming, cancellation, failure
    attach.py        attach sources, collecting those that fail
    timestamps.py    timestamps in answers
    event_log.py     one conversation on disk, as JSON lines
    frame_store.py   frames of a conversation on disk, as PNG
    store.py         all conversations on disk
    resume.py        restore a saved conversation
    export.py        export as Markdown, JSON or HTML
    commands.py      slash commands: grammar and completion
    execute.py       slash commands: effects
    player.py        play a video from a time in an external player

The full-screen chat, the line mode and ``ask --continue`` share this package.
"""

from smolvideo.conversation.conversation import Conversation
from smolvideo.conversation.running_turn import RunningTurn
from smolvideo.conversation.settings import Settings
from smolvideo.conversation.turns import Attachment, Turn

__all__ = ["Attachment", "Conversation", "RunningTurn", "Settings", "Turn"]
