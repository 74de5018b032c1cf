"""Time stamps of MPEG in PES headers (ISO/IEC 13818-1, 2.4.3.7)."""

WRAP = 2**33
"""Ticks of 1/90000 s after which the clock begins again at 0."""


def shift_stamp(data: bytearray, at: int, ticks: int) -> None:
    """Move the stamp of five bytes at a place: 33 bits, with marker bits between them."""
    a, b, c, d, e = data[at : at + 5]
    time = (a >> 1 & 7) << 30 | b << 22 | c >> 1 << 15 | d << 7 | e >> 1
    time = (time + ticks) % WRAP
    data[at : at + 5] = (
        (a & 0xF0) | time >> 29 & 0x0E | 1,
        time >> 22 & 0xFF,
        time >> 14 & 0xFE | 1,
        time >> 7 & 0xFF,
        time << 1 & 0xFE | 1,
    )
