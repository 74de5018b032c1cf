"""Messages between the program and the decoding process: JSON, one at a time.

JSON and not pickle: what a process says that untrusted bytes may have taken over must not be able
to run anything here.
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
"""Bytes: the times of the frames of a week."""

Payload = dict[str, Any]


class Channel:
    """One end. Sending is safe in several threads; OSError or EOFError where the other is gone."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple["Channel", "Channel"]:
        """Two ends; the second is to be handed to another process by its ``handle``."""
        ours, theirs = Pipe(duplex=True)
        return cls(ours), cls(theirs)

    @classmethod
    def of_handle(cls, handle: int) -> "Channel":
        """The end that was handed over."""
        return cls(_connection_type()(handle))

    @property
    def handle(self) -> int:
        return int(self._connection.fileno())

    def send(self, message: Payload) -> None:
        with self._sending:
            self._connection.send_bytes(json.dumps(message).encode())

    def poll(self, seconds: float) -> bool:
        """Whether a message, or the other's end, arrives within so many seconds."""
        return bool(self._connection.poll(seconds))

    def receive(self) -> Payload:
        """The next message. ValueError for one that is none."""
        message = json.loads(self._connection.recv_bytes(_MAX_MESSAGE))
        if not isinstance(message, dict):
            raise ValueError("not a message")
        return message

    def close(self) -> None:
        self._connection.close()


def inheritable(handle: int) -> Any:
    """What ``subprocess.Popen`` must be told so that a process inherits this handle alone."""
    if sys.platform == "win32":
        import subprocess

        os.set_handle_inheritable(handle, True)
        start = subprocess.STARTUPINFO()
        start.lpAttributeList = {"handle_list": [handle]}
        quiet = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        return {"startupinfo": start, "creationflags": quiet}
    # A session of its own: Ctrl-C is for the program, which ends the process itself.
    return {"pass_fds": (handle,), "start_new_session": True}


def _connection_type() -> Any:
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        return PipeConnection
    from multiprocessing.connection import Connection

    return Connection
