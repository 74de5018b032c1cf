"""Formatting of video times: a player's clock, and the time stamps of prompts."""


def format_clock(seconds: float, *, tenths: bool = False) -> str:
    """Format a time as a player does: ``0:03``, ``12:05``, ``1:02:03``; with tenths ``0:03.4``.

    Rounded down, like a player's clock.
    """
    whole_tenths = int(max(seconds, 0.0) * 10 + 1e-6)
    whole, tenth = divmod(whole_tenths, 10)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
    return f"{clock}.{tenth}" if tenths else clock


def format_timestamp(seconds: float) -> str:
    """Format ``MM:SS`` as in SmolVLM2's prompt: seconds rounded down, minutes may exceed 59.

    >>> format_timestamp(75.9), format_timestamp(4503)
    ('01:15', '75:03')
    """
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    return f"{minutes:02d}:{rest:02d}"
