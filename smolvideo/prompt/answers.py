"""Where an answer begins: the text that a prompt leaves open, and the tokens that continue it."""

from smolvideo.errors import PromptError
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.encode import encode
from smolvideo.prompt.messages import Prompt
from smolvideo.prompt.templates import ANSWER_OPENING


def answer_ids(prompt: Prompt, answer: str, checkpoint: Checkpoint) -> list[int]:
    """The tokens of ``answer`` after those of ``prompt``, without the end of the turn.

    Outer blanks are no part of an answer (``Answer.text`` has none); what parts it from the prompt
    is what the checkpoint's chat template puts there: one blank after ``Assistant:``, none where
    the prompt ends with a blank already. Prompt and answer are tokenized as one text, from the last
    special token on, as an answer in the middle of a conversation is. Where a token of that text
    would hold the end of the prompt and the beginning of the answer, the answer is tokenized by
    itself: the prompt's tokens are final before generation begins. No answer becomes a special
    token. Raises PromptError for an answer without text.
    """
    text = answer.strip()
    if not text:
        raise PromptError("an answer to score must not be empty")
    special = set(checkpoint.special_tokens.values())
    begin = next(
        (at for at in range(len(prompt.token_ids), 0, -1) if prompt.token_ids[at - 1] in special), 0
    )
    open_ids = list(prompt.token_ids[begin:])
    open_text = checkpoint.text_tokenizer.decode(open_ids) if open_ids else ""
    if not open_text[-1:].isspace():
        text = ANSWER_OPENING + text
    joined = encode([open_text + text], checkpoint)
    if joined[: len(open_ids)] == open_ids:
        return joined[len(open_ids) :]
    return encode([text], checkpoint)
