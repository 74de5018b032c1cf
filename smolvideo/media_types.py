"""Media file suffixes, and the natural sort order of numbered files."""

import re

VIDEO_SUFFIXES = frozenset(
    {
        ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
        ".h265", ".hevc", ".ivf", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg",
        ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv",
        ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".y4m",
    }
)  # fmt: skip
IMAGE_SUFFIXES = frozenset(
    {
        ".apng", ".avif", ".avifs", ".bmp", ".dds", ".dib", ".fits", ".heic", ".heif", ".icb",
        ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx",
        ".msp", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi", ".ras",
        ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
    }
)  # fmt: skip
"""Images: formats that Pillow reads, without icons, formats that may hold arbitrary raw data, and
formats that it passes to other programs. HEIC requires a plug-in; its error says so."""

TEXTUAL_IMAGE_SUFFIXES = frozenset({".pbm", ".pgm", ".pnm", ".ppm", ".xbm", ".xpm"})
"""Image formats that may be ASCII text."""


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a sorting key that puts ``frame2`` before ``frame10``.

    >>> sorted(["f10.png", "f9.png", "F1.png"], key=natural_order)
    ['F1.png', 'f9.png', 'f10.png']
    """
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.casefold())
        for piece in re.split(r"(\d+)", name)
        if piece
    ]
