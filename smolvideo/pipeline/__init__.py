"""The stages joined: from sources and a question to an answer and its record.

preparing.py   frames chosen, tokens counted, frames decoded, prompt packed
answering.py   what was prepared, answered by an engine
recording.py   answer or error as a record
"""

from smolvideo.pipeline.answering import ask, stream_answer
from smolvideo.pipeline.preparing import Prepared, Sources, fair_shares, load_frames, prepare
from smolvideo.pipeline.recording import (
    installed_versions,
    record_answer,
    record_error,
    settings_in_effect,
)

__all__ = [
    "Prepared",
    "Sources",
    "ask",
    "fair_shares",
    "installed_versions",
    "load_frames",
    "prepare",
    "record_answer",
    "record_error",
    "settings_in_effect",
    "stream_answer",
]
