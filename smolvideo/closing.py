"""Context managers that are closed at the end of their block."""

from abc import ABC, abstractmethod
from typing import Self


class ClosedOnExit(ABC):
    """Base of context managers that hold something open until ``close``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Free what is held. May be called more than once."""
