"""How large an image is, and whether it is one: read from its own bytes, without decoding it."""

import struct
import zlib

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""markers of a JPEG that tell its size"""
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""markers of a JPEG that nothing belongs to"""


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the first bytes. Raises ValueError, IndexError or struct.error."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack_from(">II", data, 16)
    elif data[:3] == b"GIF":
        width, height = struct.unpack_from("<HH", data, 6)
    elif data[:2] == b"\xff\xd8":
        width, height = _jpeg(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        width, height = _webp(data)
    else:
        raise ValueError("no image that is known")
    if not width or not height:
        raise ValueError("an image of nothing")
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 < len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    raise ValueError("a JPEG without a size")


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    raise ValueError("a WebP without a size")


def whole(data: bytes) -> bool:
    """Whether an image is complete and undamaged, as far as that can be told without decoding it."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _whole_png(data)
    if data[:3] == b"GIF":
        return data[-1:] == b";"
    if data[:2] == b"\xff\xd8":
        return b"\xff\xd9" in data[-1024:]  # cameras append a few bytes of their own
    if data[:4] == b"RIFF":
        return len(data) >= 8 + int(struct.unpack_from("<I", data, 4)[0])
    return False


def _whole_png(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False
