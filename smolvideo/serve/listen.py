"""Run the server: bind, load the model in the engine's thread, answer until it is stopped."""

import errno
import socket
from collections.abc import Callable

import uvicorn

from smolvideo.engines import Engine
from smolvideo.errors import UsageError
from smolvideo.models import Checkpoint
from smolvideo.progress import OnProgress
from smolvideo.sanitize import display_name
from smolvideo.serve.app import make_app
from smolvideo.serve.metrics import Metrics
from smolvideo.serve.options import ServerOptions
from smolvideo.serve.server import OnNotice, Server
from smolvideo.serve.worker import EngineWorker

_GRACE_SECONDS = 3
_IDLE_SECONDS = 75
"""How long an idle connection is kept: longer than common proxies do, so that they close first."""


class VideoServer:
    """A bound server. ``run`` answers until ``stop`` or Ctrl-C.

    ``load`` loads the engine of ``checkpoint`` in the engine's thread; until it has, ``/health``
    and all requests get a 503. ``on_ready`` is called once it has. Raises UsageError where the
    address cannot be bound.
    """

    def __init__(
        self,
        options: ServerOptions,
        checkpoint: Checkpoint,
        load: Callable[[OnProgress], Engine],
        *,
        on_notice: OnNotice = lambda _: None,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.options = options
        self._on_ready = on_ready
        self.worker = EngineWorker(
            load,
            max_waiting=options.max_waiting,
            max_sessions=options.max_sessions,
            on_ready=self._loaded,
        )
        self._socket = bind(options.host, options.port)
        self.server = Server(options, self.worker, checkpoint, Metrics(), on_notice)
        config = uvicorn.Config(
            make_app(self.server),
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._uvicorn = uvicorn.Server(config)

    @property
    def port(self) -> int:
        """The bound port: that of the options, or the one that the system chose for 0."""
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """The address of the server."""
        host = self.options.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_listening(self) -> bool:
        """Whether requests are answered, with a 503 until the model is loaded."""
        return self._uvicorn.started

    def run(self) -> None:
        """Load the model and answer requests until the server is stopped.

        Raises what loading raised, and KeyboardInterrupt after Ctrl-C.
        """
        self.worker.start()
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            self.worker.close()
            self._socket.close()
        if self.worker.error is not None:
            raise self.worker.error

    def stop(self) -> None:
        """Stop ``run``; from any thread."""
        self._uvicorn.should_exit = True

    def _loaded(self) -> None:
        if self.worker.error is not None:
            self.stop()
        else:
            self._on_ready()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises UsageError where the address is taken or not this
    machine's."""
    name = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"`{display_name(host)}` is no address of this machine",
            hint="127.0.0.1 is for this machine alone, 0.0.0.0 for every network",
        ) from error
    try:
        if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows: others could bind the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(128)
    except (OSError, OverflowError) as error:
        bound.close()
        code = getattr(error, "errno", None)
        if code == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} of `{host}` is taken by another program",
                hint="choose another with `--port`, or 0 for a free one",
            ) from error
        if code in (errno.EACCES, errno.EPERM):
            raise UsageError(
                f"port {port} needs the rights of an administrator", hint="`--port 8000`"
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot listen at `{display_name(host)}`, port {port}: {reason}",
            hint="127.0.0.1 is for this machine alone, 0.0.0.0 for every network",
        ) from error
    return bound
