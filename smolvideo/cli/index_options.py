"""Options of ``smolvideo index`` and ``smolvideo find``: the index file, and its windows."""

from pathlib import Path

from smolvideo.cli.flags import FilePath, Flags, IntegerType, flag
from smolvideo.cli.summary_options import WindowType
from smolvideo.index.database import default_index_path
from smolvideo.index.options import IndexOptions


class IndexFileFlags(Flags, section="Index"):
    """The option ``--index``."""

    index: Path | None = flag(
        type=FilePath(),
        metavar="FILE",
        envvar="SMOLVIDEO_INDEX",
        show_envvar=True,
        show_default="index.sqlite in the folder for your data",
        help="The index file.",
    )

    @property
    def index_path(self) -> Path:
        """The index file that was named, or the default. Raises RecordError."""
        return self.index if self.index is not None else default_index_path()


class WindowFlags(Flags, section="Index"):
    """Windows of the index."""

    window: float = flag(
        type=WindowType(),
        default=IndexOptions.window_seconds,
        show_default="10",
        help="Length of a window in seconds. A hit is a window, a part of one, or several.",
    )
    max_frames: int = flag(
        default_from=IndexOptions,
        type=IntegerType(min=1),
        metavar="N",
        help="Frames per window; their distance is how exactly a hit begins and ends.",
    )
    shot_changes: bool = flag(
        "--shot-changes/--no-shot-changes",
        default=IndexOptions.at_shot_changes,
        help="Let windows end at shot changes.",
    )
