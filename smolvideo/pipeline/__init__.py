"""The stages joined: from sources and a question to an answer and its record.

preparing.py   frames chosen, tokens counted, frames decoded, prompt packed
answering.py   what was prepared, answered by an engine
notices.py     what the user must know besides the answer
recording.py   answer or error as a record
"""

from smolvideo.pipeline.answering import ask, stream_answer, with_prepared
from smolvideo.pipeline.notices import (
    NANO_NOTICE,
    notices_about,
    notices_for_model,
    notices_of_frames,
)
from smolvideo.pipeline.preparing import Prepared, Sources, fair_shares, load_frames, prepare
from smolvideo.pipeline.recording import (
    record_answer,
    record_error,
    recorded_versions,
    settings_in_effect,
)

__all__ = [
    "NANO_NOTICE",
    "Prepared",
    "Sources",
    "ask",
    "fair_shares",
    "load_frames",
    "notices_about",
    "notices_for_model",
    "notices_of_frames",
    "prepare",
    "record_answer",
    "record_error",
    "recorded_versions",
    "settings_in_effect",
    "stream_answer",
    "with_prepared",
]
