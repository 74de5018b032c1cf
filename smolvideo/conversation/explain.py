"""``/why``: the frames that carry the last answer of a conversation."""

from dataclasses import dataclass, replace

from smolvideo.answer import Answer, AnswerEvidence
from smolvideo.conversation.conversation import Conversation
from smolvideo.errors import UsageError
from smolvideo.evidence import AnswerScores, explain_answer, require_sessions
from smolvideo.pipeline import PreparedPrompt
from smolvideo.progress import OnProgress, no_progress


@dataclass(frozen=True)
class ExplainedAnswer:
    """An answer with its prompt, and the frames that carry it."""

    prepared: PreparedPrompt
    answer: Answer
    evidence: AnswerEvidence


def explain_last_answer(
    conversation: Conversation, *, on_progress: OnProgress = no_progress
) -> ExplainedAnswer:
    """Find the frames that carry the last answer, and keep them in its turn.

    Raises UsageError where nothing was answered since the conversation was opened, where the frames
    were sampled again since, and for an engine that does not keep their features.
    """
    asked = conversation.last_asked
    is_last = asked is not None and conversation.turns and conversation.turns[-1] is asked.turn
    if asked is None or not is_last or asked.prepared is None or asked.answer is None:
        raise UsageError("there is no answer to explain yet", hint="ask something first")
    prepared, answer, turn = asked.prepared, asked.answer, conversation.turns[-1]
    attached = [attachment.batch for attachment in conversation.attachments]
    places = [
        next((place for place, other in enumerate(attached) if other is batch), None)
        for batch in prepared.batches
    ]
    if None in places:
        raise UsageError(
            "the frames have been sampled again since the last answer", hint="ask again first"
        )
    engine = require_sessions(conversation.load_engine(on_progress=on_progress))
    session = conversation.fork_session(engine)
    scores = AnswerScores(session, engine.checkpoint, prepared, answer, on_progress=on_progress)
    evidence = explain_answer(scores, on_progress=on_progress)
    frames = tuple(replace(frame, source=places[frame.source] or 0) for frame in evidence.frames)
    asked.turn = replace(turn, evidence=replace(evidence, frames=frames))
    conversation.replace_last_turn(asked.turn)
    return ExplainedAnswer(prepared, answer, evidence)
