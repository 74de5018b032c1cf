"""Encrypted videos in the form of each container.

MP4 is really encrypted by FFmpeg's own muxer (CENC, AES-CTR). Other containers have no such muxer:
their payload is XORed with a key stream, and their headers declare the encryption as their
standards require.
"""

import hashlib
from pathlib import Path

import av
from support import clipmaker

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "112233445566778899aabbccddeeff00",
}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def scrambled(data: bytes) -> bytes:
    """Return the bytes XORed with a key stream of the same length."""
    stream = hashlib.shake_128(b"key").digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def write_cenc(path: Path, *, fragmented: bool = False, codec: str = "libx264") -> Path:
    """Write an MP4 or QuickTime file with encrypted samples."""
    options = {**CENC, **(FRAGMENTED if fragmented else {})}
    clip = clipmaker.write_clip(
        path, clipmaker.evenly(20, 10), codec=codec, container_options=options
    )
    assert b"encv" in path.read_bytes()
    return clip.path


def replaced(source: Path, target: Path, *changes: tuple[bytes, bytes]) -> Path:
    """Copy a file with bytes replaced by as many others, each at least once."""
    data = source.read_bytes()
    for old, new in changes:
        assert old in data
        assert len(old) == len(new)
        data = data.replace(old, new)
    target.write_bytes(data)
    return target


def declared_clear(encrypted: Path, clear: Path, target: Path) -> Path:
    """Copy an encrypted MP4 with its video declared clear; other tracks stay declared encrypted."""
    data, samples = encrypted.read_bytes(), clear.read_bytes()
    place, source = data.index(b"mdat"), samples.index(b"mdat")
    size = int.from_bytes(data[place - 4 : place], "big") - 4
    assert int.from_bytes(samples[source - 4 : source], "big") - 4 == size
    data = data[:place] + samples[source : source + size] + data[place + size :]
    entry = data.index(b"encv")
    protection = data.index(b"sinf", entry)
    target.write_bytes(
        data[:entry] + b"avc1" + data[entry + 4 : protection] + b"free" + data[protection + 4 :]
    )
    return target


def element(name: bytes, content: bytes) -> bytes:
    """Return an EBML element with a size field of eight bytes."""
    return name + (1 << 56 | len(content)).to_bytes(8, "big") + content


def write_encrypted_matroska(path: Path) -> Path:
    """Write a WebM with scrambled blocks and a track that declares ContentEncryption with AES."""
    options = {"live": "1"}  # segment and clusters have unknown size
    clip = clipmaker.write_clip(
        path, clipmaker.evenly(20, 10), codec="libvpx", container_options=options
    )
    data = path.read_bytes()
    tracks = data.rindex(bytes.fromhex("1654ae6b"))  # the first is in the SeekHead
    begin, old = _sized(data, tracks + 4)
    assert data[begin] == 0xAE
    entry, entry_old = _sized(data, begin + 1)
    encryption = element(b"\x50\x35", element(b"\x47\xe1", b"\x05"))
    encoding = element(b"\x62\x40", element(b"\x50\x33", b"\x01") + encryption)
    content = data[entry : entry + entry_old] + element(b"\x6d\x80", encoding)
    rest = data[begin + old :]
    data = data[:tracks] + element(bytes.fromhex("1654ae6b"), element(b"\xae", content))
    cluster = rest.index(bytes.fromhex("1f43b675"))
    path.write_bytes(data + rest[: cluster + 40] + scrambled(rest[cluster + 40 :]))
    return clip.path


def _sized(data: bytes, place: int) -> tuple[int, int]:
    length = 9 - data[place].bit_length()
    size = int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1)
    return place + length, size


def write_scrambled_transport_stream(path: Path) -> Path:
    """Write a transport stream whose video packets are scrambled with the odd key."""
    clipmaker.write_clip(path, clipmaker.evenly(20, 10))
    data = bytearray(path.read_bytes())
    for start in range(0, len(data), 188):
        pid = int.from_bytes(data[start + 1 : start + 3], "big") & 0x1FFF
        if pid == 0x100:
            data[start + 3] |= 0xC0
            data[start + 4 : start + 188] = scrambled(bytes(data[start + 4 : start + 188]))
    path.write_bytes(data)
    return path


def write_program_stream(path: Path) -> Path:
    """Write MPEG-2 video as on a DVD; the encoder supports few frame rates."""
    with av.open(str(path), "w", format="vob") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.pix_fmt, stream.width, stream.height = "yuv420p", clipmaker.WIDTH, clipmaker.HEIGHT
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(clipmaker.numbered_image(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_scrambled_program_stream(path: Path) -> Path:
    """Write a program stream as on a DVD whose video packets are marked scrambled."""
    data = bytearray(write_program_stream(path).read_bytes())
    place = 0
    while (place := data.find(b"\x00\x00\x01\xe0", place)) >= 0:
        data[place + 6] |= 0x10
        place += 4
    path.write_bytes(data)
    return path


def write_locked_asf(path: Path) -> Path:
    """Write a WMV whose header has a content encryption object."""
    clipmaker.write_clip(path, clipmaker.evenly(20, 10), codec="msmpeg4")
    data = bytearray(path.read_bytes())
    locked = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e") + (40).to_bytes(8, "little")
    locked += bytes(16)
    size = int.from_bytes(data[16:24], "little") + len(locked)
    count = int.from_bytes(data[24:28], "little") + 1
    data[16:28] = size.to_bytes(8, "little") + count.to_bytes(4, "little")
    data[30:30] = locked
    path.write_bytes(data)
    return path


def write_filtered_flv(path: Path) -> Path:
    """Write an FLV whose video tags are marked filtered, which is how FLV declares encryption."""
    clipmaker.write_clip(path, clipmaker.evenly(20, 10), codec="flv")
    data = bytearray(path.read_bytes())
    start = 13
    while start < len(data):
        if data[start] == 9:
            data[start] |= 0x20
        start += 15 + int.from_bytes(data[start + 1 : start + 4], "big")
    path.write_bytes(data)
    return path
