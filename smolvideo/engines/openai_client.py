"""HTTP client of OpenAI-compatible servers: the list of models, and streamed chat completions.

What a server sends is untrusted: it is checked, limited, and shown without control characters.
https://platform.openai.com/docs/api-reference/chat
"""

import ipaddress
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from smolvideo.credentials import without_credentials
from smolvideo.errors import ModelError, PromptError, UsageError
from smolvideo.json_types import parse_json
from smolvideo.sanitize import display_name

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLES = ("SMOLVIDEO_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the key of the server, the first that is set."""

_REQUEST_PATHS = ("/chat/completions", "/models")
_CONNECT_SECONDS = 10.0
_OTHER_FIELDS = (":", "event:", "id:", "retry:")
"""Lines of an event stream that hold no data; the first is a comment."""
_SILENT_SECONDS = 600.0
"""How long a server may be silent, as in OpenAI's own client: many encode all frames first."""
_MAX_BYTES = 16 * 2**20
"""Maximum bytes of an answer, or of the list of models."""
_MAX_RETRIES = 5
_MAX_RETRY_SECONDS = 30.0


def check_base_url(given: str) -> str:
    """Return the base URL ending in ``/v1``; a server's address alone gets that path.

    The path of a request, such as ``/chat/completions``, is left out. Raises UsageError for what is
    no http(s) URL, and for a user or password in it.
    """
    url = given.strip().rstrip("/")
    if not url:
        raise UsageError(
            "the address of the server is empty", hint="such as `http://127.0.0.1:8000`"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            f"`{display_name(without_credentials(given))}` is no address of a server",
            hint="such as `http://127.0.0.1:8000`",
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "the address of a server has no user and no password",
            hint=f"put its key into {KEY_VARIABLES[0]}",
        )
    for path in _REQUEST_PATHS:
        if parts.path.endswith(path):
            return url.removesuffix(path)
    return url if parts.path else f"{url}/v1"


def is_loopback(url: str) -> bool:
    """Return whether a URL is of this machine, without asking for its name."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class RemoteModel:
    """A model in the list of a server; ``details`` are those that ``smolvideo serve`` adds."""

    name: str
    context_tokens: int | None
    details: Mapping[str, Any] | None


class OpenAIClient:
    """A server at ``base_url``. ``sleep`` waits before a request is sent again."""

    def __init__(self, base_url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.base_url = check_base_url(base_url)
        self._sleep = sleep

    def models(self) -> list[RemoteModel]:
        """Return the models of the server; empty where it has no list.

        Raises ModelError where nothing answers, or something else does.
        """
        with self._request("GET", "/models") as response:
            if response.status_code == 404:
                return []
            self._check_status(response)
            content = self._parse(self._read(response))
        entries = content.get("data") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise self._not_openai()
        return [_model(entry) for entry in entries[:1000] if _is_model(entry)]

    def stream_chat(self, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the chunks of a streamed completion, checked to be objects.

        A server that cannot stream sends the completion whole, which is one chunk. Where the server
        is busy, the request is sent again. Raises ModelError, PromptError.
        """
        for attempt in range(_MAX_RETRIES + 1):
            with self._request("POST", "/chat/completions", body) as response:
                if response.status_code in (429, 503) and attempt < _MAX_RETRIES:
                    wait = _retry_seconds(response.headers.get("retry-after"), attempt)
                else:
                    self._check_status(response)
                    yield from self._events(response)
                    return
            self._sleep(wait)

    def _events(self, response: "httpx2.Response") -> Iterator[dict[str, Any]]:
        size, is_stream, whole = 0, False, []
        for line in response.iter_lines():
            size += len(line)
            if size > _MAX_BYTES:
                raise ModelError(f"the answer of `{self.base_url}` does not end")
            if not line.startswith("data:"):
                if not line.startswith(_OTHER_FIELDS):
                    whole.append(line)
                continue
            is_stream = True
            text = line.removeprefix("data:").strip()
            if text == "[DONE]":
                return
            yield self._checked_chunk(text)
        if not is_stream and (text := "\n".join(whole).strip()):
            yield self._whole_chunk(text)

    def _checked_chunk(self, text: str) -> dict[str, Any]:
        chunk = self._parse(text.encode())
        if not isinstance(chunk, dict):
            raise self._not_openai()
        if chunk.get("error"):
            raise ModelError(f"`{self.base_url}`: {_error_text(chunk)}")
        return chunk

    def _whole_chunk(self, text: str) -> dict[str, Any]:
        """Return a completion that was not streamed as the only chunk of a stream."""
        completion = self._checked_chunk(text)
        choices = completion.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(message, dict):
            raise self._not_openai()
        reason = choice.get("finish_reason") or "stop"
        return {**completion, "choices": [{"delta": message, "finish_reason": reason}]}

    @contextmanager
    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Iterator["httpx2.Response"]:
        import httpx2

        headers = {"accept": "application/json, text/event-stream", "user-agent": "smolvideo"}
        if key := _api_key():
            headers["authorization"] = f"Bearer {key}"
        timeout = httpx2.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS)
        try:
            # Without redirects: the key and the frames go to this server alone.
            with (
                httpx2.Client(timeout=timeout, follow_redirects=False) as client,
                client.stream(method, self.base_url + path, json=body, headers=headers) as response,
            ):
                yield response
        except httpx2.ConnectError as error:
            raise ModelError(
                f"nothing answers at `{self.base_url}`",
                hint="is the server running? `smolvideo serve` starts one",
            ) from error
        except httpx2.TimeoutException as error:
            raise ModelError(f"`{self.base_url}` is silent") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = display_name(str(error) or type(error).__name__)
            raise ModelError(f"the connection to `{self.base_url}` failed: {reason}") from error

    def _check_status(self, response: "httpx2.Response") -> None:
        """Raise the error of a response that is none: its message is the server's."""
        status = response.status_code
        if status == 200:
            return
        hint = None
        try:
            said = _error_text(self._parse(self._read(response)))
        except ModelError:
            said, hint = f"status {status}", self._address_hint()
        message = f"`{self.base_url}`: {said}"
        if status in (401, 403):
            raise ModelError(message, hint=_key_hint())
        if status in (400, 413, 422):
            if status == 413 or "image" in said or "frames" in said:
                hint = "fewer frames may do: `--max-frames`"
            raise PromptError(message, hint=hint)
        if 300 <= status < 400 and (to := response.headers.get("location")):
            shown = display_name(without_credentials(to))
            hint = f"it sends elsewhere: `{shown}`; is that the address?"
        elif status in (404, 405, 501) and "model" not in said:
            hint = self._address_hint()
        elif status in (429, 503):
            hint = "the server is busy, or not ready: try again later"
        raise ModelError(message, hint=hint)

    def _read(self, response: "httpx2.Response") -> bytes:
        content = b""
        for block in response.iter_bytes():
            content += block
            if len(content) > _MAX_BYTES:
                raise self._not_openai()
        return content

    def _parse(self, text: bytes) -> Any:
        try:
            return parse_json(text)
        except ValueError as error:
            raise self._not_openai() from error

    def _not_openai(self) -> ModelError:
        return ModelError(
            f"what answers at `{self.base_url}` does not speak OpenAI's interface",
            hint=self._address_hint(),
        )

    def _address_hint(self) -> str:
        if urlsplit(self.base_url).path.endswith("/v1"):
            return "is this the address of an OpenAI-compatible server?"
        return "the address often ends in `/v1`"


def _key_variable() -> str | None:
    return next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), None)


def _api_key() -> str | None:
    name = _key_variable()
    return os.environ[name].strip() if name else None


def _key_hint() -> str:
    if name := _key_variable():
        return f"the server does not accept the key in {name}"
    return f"put the server's key into {KEY_VARIABLES[0]}"


def _is_model(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("id"), str)


def _model(entry: Mapping[str, Any]) -> RemoteModel:
    context, details = entry.get("max_model_len"), entry.get("smolvideo")
    is_count = isinstance(context, int) and not isinstance(context, bool) and 0 < context < 2**24
    return RemoteModel(
        entry["id"],
        context if is_count else None,
        details if isinstance(details, dict) else None,
    )


def _error_text(content: Any) -> str:
    """Return the message of an error in OpenAI's shape, or the content, on one line."""
    error = content.get("error") if isinstance(content, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else json.dumps(content)
    return display_name(text, max_length=500)


def _retry_seconds(header: str | None, attempt: int) -> float:
    try:
        seconds = float(header or "")
    except ValueError:
        seconds = 2.0**attempt
    return min(max(seconds, 0.1), _MAX_RETRY_SECONDS)
