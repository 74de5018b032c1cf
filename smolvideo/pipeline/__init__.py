"""Pipeline of one question: sources → frames → prompt → answer → record.

prepared_prompt.py  a packed question with its frames
prepare_prompt.py   choose frame times, count tokens, decode frames, pack the prompt
plan_prompt.py      the same without decoding all of it: frames, tokens, and the predicted cost
source_frames.py    the frames of one source
prepare_turns.py    the same for a conversation with media anywhere among its texts
compare.py          two videos in one prompt, their frames interleaved by time
answer.py           stream the answer of an engine to a prepared prompt; answer or error as a record
choices.py          the probabilities of given choices, as an answer
notices.py          warnings about model, frames and question
subtitles.py        cues of a subtitle file or text track, limited to the prompt's budget
"""

from smolvideo.pipeline.answer import (
    AsyncAnswerStream,
    call_in_thread,
    effective_settings,
    hash_prompts,
    package_versions,
    record_answer,
    record_error,
    remember_cost,
    stop_when,
    stream_answer,
    with_context,
    with_prepared,
)
from smolvideo.pipeline.choices import answer_by_choice, parse_choices, parse_rating
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
    allocate_frames,
    prepare,
    reserve_context,
)
from smolvideo.pipeline.prepare_turns import (
    DecodedTurns,
    MediaTurn,
    Medium,
    decode_turns,
    media_of,
    pack_turns,
    place_media,
)
from smolvideo.pipeline.prepared_prompt import PreparedPrompt
from smolvideo.pipeline.source_frames import load_frames

__all__ = [
    "NANO_NOTICE",
    "AsyncAnswerStream",
    "CostPlan",
    "DecodedTurns",
    "MediaTurn",
    "Medium",
    "PlannedModel",
    "PlannedPrompt",
    "PreparedPrompt",
    "allocate_frames",
    "answer_by_choice",
    "call_in_thread",
    "decode_turns",
    "effective_settings",
    "hash_prompts",
    "load_frames",
    "media_of",
    "notices_for_model",
    "notices_of_frames",
    "open_for_plan",
    "pack_turns",
    "package_versions",
    "parse_choices",
    "parse_rating",
    "place_media",
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
    "with_context",
    "with_prepared",
]
