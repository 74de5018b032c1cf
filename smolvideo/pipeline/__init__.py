"""Pipeline of one question: sources → frames → prompt → answer → record.

prepare_prompt.py  choose frame times, count tokens, decode frames, pack the prompt
plan_prompt.py     the same without decoding all of it: frames, tokens, and the predicted cost
answer.py          stream the answer of an engine to a prepared prompt; answer or error as a record
notices.py         warnings about model, frames and question
subtitles.py       cues of a subtitle file or text track, limited to the prompt's budget
"""

from smolvideo.pipeline.answer import (
    AsyncAnswerStream,
    call_in_thread,
    effective_settings,
    package_versions,
    record_answer,
    record_error,
    remember_cost,
    stop_when,
    stream_answer,
    with_prepared,
)
from smolvideo.pipeline.notices import (
    NANO_NOTICE,
    notices_for_model,
    notices_of_frames,
    unknown_word_notices,
)
from smolvideo.pipeline.plan_prompt import (
    CostPlan,
    PlannedModel,
    PlannedPrompt,
    open_for_plan,
    plan_prompt,
    predict_plan,
)
from smolvideo.pipeline.prepare_prompt import (
    PreparedPrompt,
    allocate_frames,
    load_frames,
    prepare,
    reserve_context,
)

__all__ = [
    "NANO_NOTICE",
    "AsyncAnswerStream",
    "CostPlan",
    "PlannedModel",
    "PlannedPrompt",
    "PreparedPrompt",
    "allocate_frames",
    "call_in_thread",
    "effective_settings",
    "load_frames",
    "notices_for_model",
    "notices_of_frames",
    "open_for_plan",
    "package_versions",
    "plan_prompt",
    "predict_plan",
    "prepare",
    "record_answer",
    "record_error",
    "remember_cost",
    "reserve_context",
    "stop_when",
    "stream_answer",
    "unknown_word_notices",
    "with_prepared",
]
