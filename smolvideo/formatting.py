"""Formatting of values as text: video times as a clock, durations, sizes and counts."""


def format_clock(seconds: float, *, decimals: int = 0) -> str:
    """Format a time as a player does: ``0:03``, ``12:05``, ``1:02:03``; with a decimal ``0:03.4``.

    Rounded down, like a player's clock.
    """
    parts_per_second = 10**decimals
    whole, parts = divmod(int(max(seconds, 0.0) * parts_per_second + 1e-6), parts_per_second)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{clock}.{parts:0{decimals}d}" if decimals else clock


def format_timestamp(seconds: float) -> str:
    """Format ``MM:SS`` as in SmolVLM2's prompt: seconds rounded down, minutes may exceed 59.

    >>> format_timestamp(75.9), format_timestamp(4503)
    ('01:15', '75:03')
    """
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    return f"{minutes:02d}:{rest:02d}"


def format_seconds(seconds: float) -> str:
    """Format a duration: ``0.04 s``, ``1.3 s``, ``48 s``, ``2 min 05 s``."""
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_bytes(count: float) -> str:
    """Format a size in decimal units, like download pages: ``812 B``, ``4.2 MB``, ``1.9 GB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.5 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_count(count: int, one: str, many: str | None = None) -> str:
    """Format a count with its noun: ``1 frame``, ``8 frames``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def format_span(start_seconds: float, end_seconds: float) -> str:
    """Format a time range with hours, as hits of a search have it: the start as a player shows it,
    the end rounded.

    >>> format_span(83.9, 91.9)
    '0:01:23–0:01:32'
    """
    end = int(max(end_seconds, 0.0) + 0.5)
    return f"{_with_hours(start_seconds)}–{_with_hours(end)}"  # noqa: RUF001


def _with_hours(seconds: float) -> str:
    clock = format_clock(seconds)
    return clock if clock.count(":") == 2 else f"0:{clock:0>5}"
