"""What Claude Code does to an image on its way: nothing to a small one; a large one is made smaller or coarser.

One that it cannot make out would be replaced by a sentence about that, which is no image: such a prompt is refused.
"""

import base64
import binascii
import struct

from llmux.failures import Kind, ProviderFailure
from llmux.prompts import Image

SIDE_PIXELS_MAX = 2_000
"""a larger side is scaled down to this, and a line of text tells the model so"""
IMAGE_BYTES_MAX = 512_000
"""what is larger is turned into a JPEG below this"""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""markers of a JPEG that tell its size"""
_ALONE = frozenset({0x01, *range(0xD0, 0xDA)})
"""markers of a JPEG that nothing belongs to"""


def arrives_changed(image: Image) -> bool:
    """Whether the model gets another image than this. Raises ProviderFailure(INVALID_REQUEST) for what is no image."""
    try:
        data = base64.b64decode(image.data)
        width, height = size(data)
    except (binascii.Error, ValueError, struct.error, IndexError):
        raise ProviderFailure(
            Kind.INVALID_REQUEST,
            "An image cannot be read: Claude Code takes PNG, JPEG, GIF and WebP.",
            evidence="claude.prompt_image",
        ) from None
    return len(data) > IMAGE_BYTES_MAX or max(width, height) > SIDE_PIXELS_MAX


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
