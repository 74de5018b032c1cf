"""Message channel between this process and the decoder subprocess: one JSON object per message.

JSON and not pickle: a decoder that malicious bytes have taken over must not be able to run code
here.
"""

import json
import os
import sys
import threading
from multiprocessing.connection import Pipe
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

_MAX_MESSAGE = 64 * 2**20
"""Maximum bytes of a message: the frame times of a week."""

Payload = dict[str, Any]


class Channel:
    """One end of the channel. ``send`` is thread safe; OSError or EOFError if the peer is gone."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Return two ends; the second is passed to a subprocess by its ``handle``."""
        ours, theirs = Pipe(duplex=True)
        return cls(ours), cls(theirs)

    @classmethod
    def of_handle(cls, handle: int) -> "Channel":
        """Open the end that was passed to this process."""
        return cls(_connection_type()(handle))

    @property
    def handle(self) -> int:
        return int(self._connection.fileno())

    def send(self, message: Payload) -> None:
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def poll(self, seconds: float) -> bool:
        """Return whether a message, or the end of the channel, arrives within ``seconds``."""
        return bool(self._connection.poll(seconds))

    def receive(self) -> Payload:
        """Return the next message. ValueError if it is no JSON object."""
        message = json.loads(self._connection.recv_bytes(_MAX_MESSAGE))
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def close(self) -> None:
        self._connection.close()


def inheritable(handle: int) -> Any:
    """Return arguments of ``subprocess.Popen`` that make a child inherit only this handle."""
    if sys.platform == "win32":
        import subprocess

        os.set_handle_inheritable(handle, True)
        start = subprocess.STARTUPINFO()
        start.lpAttributeList = {"handle_list": [handle]}
        quiet = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"startupinfo": start, "creationflags": quiet}
    # In a new session, Ctrl-C does not reach the subprocess; we end it ourselves.
    return {"pass_fds": (handle,), "start_new_session": True}


def _connection_type() -> Any:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection
    from multiprocessing.connection import Connection

    return Connection
