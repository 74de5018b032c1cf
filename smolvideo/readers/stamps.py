"""Arithmetic on 33-bit MPEG time stamps in PES headers (ISO/IEC 13818-1, 2.4.3.7)."""

WRAP = 2**33
"""Period of the clock in units of 1/90000 s."""


def shift_stamp(data: bytearray, at: int, ticks: int) -> None:
    """Add ``ticks`` to the time stamp at ``at``: 33 bits in five bytes, with marker bits."""
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
