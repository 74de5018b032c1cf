"""Base class of progress bars on stderr; shows nothing without a terminal."""

from types import TracebackType
from typing import Self

from rich.progress import Progress, ProgressColumn

from smolvideo.show.console import Output


class ProgressBar:
    """Context manager that shows a bar on ``screen``; ``_bar`` is rich's, with ``columns``."""

    def __init__(self, screen: Output, *columns: ProgressColumn, expand: bool = False) -> None:
        self._screen = screen
        self._bar = Progress(
            *columns,
            console=screen.err,
            transient=True,
            disable=not screen.shows_progress,
            expand=expand,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
