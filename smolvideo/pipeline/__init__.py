"""The stages joined: from sources and a question to an answer and its record.

preparing.py   frames chosen, tokens counted, frames decoded, prompt packed
answering.py   what was prepared, answered by an engine
notices.py     what the user must know besides the answer
recording.py   answer or error as a record
"""

from smolvideo.pipeline.answer import ask, stream_answer, with_prepared
from smolvideo.pipeline.answer_record import (
    effective_settings,
    package_versions,
    record_answer,
    record_error,
)
from smolvideo.pipeline.notices import (
    NANO_NOTICE,
    notices_for_model,
    notices_of_frames,
    unknown_word_notices,
)
from smolvideo.pipeline.prepare_prompt import (
    PreparedPrompt,
    Sources,
    allocate_frames,
    load_frames,
    prepare,
)

__all__ = [
    "NANO_NOTICE",
    "PreparedPrompt",
    "Sources",
    "allocate_frames",
    "ask",
    "effective_settings",
    "load_frames",
    "notices_for_model",
    "notices_of_frames",
    "package_versions",
    "prepare",
    "record_answer",
    "record_error",
    "stream_answer",
    "unknown_word_notices",
    "with_prepared",
]
