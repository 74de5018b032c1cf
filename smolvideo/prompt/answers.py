"""Tokenization of a given answer as the continuation of a prompt, for scoring."""

from smolvideo.errors import PromptError
from smolvideo.models.checkpoint import Checkpoint
from smolvideo.prompt.encode import encode
from smolvideo.prompt.messages import Prompt
from smolvideo.prompt.templates import ANSWER_OPENING


def answer_ids(prompt: Prompt, answer: str, checkpoint: Checkpoint) -> list[int]:
    """Return the tokens of ``answer`` after those of ``prompt``, without the end-of-turn token.

    ``answer`` is stripped, as ``Answer.text`` is, and separated from the prompt as in the
    checkpoint's chat template: by one blank after ``Assistant:``, by none if the prompt ends with a
    blank. Prompt and answer are tokenized as one text from the last special token on, as they are
    in the middle of a conversation. If a token would span the end of the prompt and the beginning
    of the answer, the answer is tokenized alone, because the prompt's tokens are fixed before
    generation begins. No answer becomes a special token. Raises PromptError for an empty answer.
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
