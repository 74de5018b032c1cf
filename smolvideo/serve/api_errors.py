"""Errors of the HTTP interface, in OpenAI's shape, and their status codes.

    {"error": {"message": …, "type": "invalid_request_error", "param": …, "code": …}}

A 4xx says which part of the request is at fault; nothing that is not understood is ignored, media
least of all. https://platform.openai.com/docs/guides/error-codes
"""

import re
from typing import Any

from smolvideo.engines import IncompleteAnswerError
from smolvideo.errors import (
    ModelError,
    PromptError,
    ReaderError,
    RecordError,
    SmolVideoError,
    SourceError,
    UsageError,
)
from smolvideo.readers import NotAVideoError
from smolvideo.sanitize import escape_controls

_INVALID = "invalid_request_error"
_OPTION = re.compile(r"--([a-z][a-z-]*)")
"""An option of the command line in a hint; a request has the field of that name."""
_FIELDS = {"max-new-tokens": "max_tokens"}
"""Fields of OpenAI's interface whose names differ from the option's."""


class ApiError(Exception):
    """An error with its HTTP status; ``param`` is the path of the faulty field in the request."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        kind: str = _INVALID,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind
        self.headers = headers or {}

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {
            "error": {
                "message": escape_controls(self.message, allowed="\n\t"),
                "type": self.kind,
                "param": self.param,
                "code": self.code,
            }
        }


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """Return a 400: the request is understood to be wrong."""
    return ApiError(400, message, param=param, code=code)


def unsupported(message: str, *, param: str | None = None) -> ApiError:
    """Return a 400 for what OpenAI's interface has and this server does not."""
    return ApiError(400, message, param=param, code="unsupported_parameter")


def forbidden(
    message: str, *, param: str | None = None, code: str = "media_not_allowed"
) -> ApiError:
    """Return a 403: a path, an address or an origin that is not allowed."""
    return ApiError(403, message, param=param, code=code, kind="permission_error")


def busy(waiting: int, *, retry_after: int = 2) -> ApiError:
    """Return the 503 of a full queue."""
    return ApiError(
        503,
        f"{waiting} requests are waiting already: try again later",
        code="queue_full",
        kind="server_error",
        headers={"retry-after": str(retry_after)},
    )


def loading() -> ApiError:
    """Return the 503 of a server whose model is still being loaded."""
    return ApiError(
        503,
        "the model is still being loaded",
        code="model_loading",
        kind="server_error",
        headers={"retry-after": "5"},
    )


def name_fields(message: str) -> str:
    """Return a message with the fields of a request in place of the command's options."""
    return _OPTION.sub(
        lambda found: _FIELDS.get(found[1], found[1].replace("-", "_")),
        message,
    )


def to_api_error(error: Exception) -> ApiError:
    """Return the response for an error of the core."""
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, SmolVideoError) or isinstance(error, RecordError):
        # Its text may hold paths of this machine.
        said = (
            "a file of the server cannot be used: its log says which"
            if isinstance(error, RecordError)
            else f"unexpected error: {type(error).__name__}"
        )
        return ApiError(
            500,
            said,
            code="internal_error",
            kind="server_error",
        )
    message = name_fields(f"{error} ({error.hint})" if error.hint else str(error))
    if isinstance(error, NotAVideoError):
        return ApiError(415, message, code="unsupported_media")
    if isinstance(error, SourceError | ReaderError):
        return ApiError(400, message, code="invalid_media")
    if isinstance(error, IncompleteAnswerError):
        return ApiError(422, message, code="incomplete_answer", param="response_format")
    if isinstance(error, PromptError):
        return ApiError(400, message, code="context_length_exceeded", param="messages")
    if isinstance(error, UsageError):
        return ApiError(400, message, code="invalid_value")
    kind = "server_error"
    status = 500 if isinstance(error, ModelError) else 400
    return ApiError(status, message, code="model_error", kind=kind)
