"""What Codex does to an image on its way: nothing to most; a very large one is scaled down, and a GIF becomes a PNG.

One that it cannot make out would be replaced by a sentence about that, which is no image: such a prompt is refused.
"""

import base64
import binascii
import struct

from llmux.failures import Kind, ProviderFailure
from llmux.images import size, whole
from llmux.prompts import Image

SIDE_PIXELS_MAX = 6_000
TILE_PIXELS, TILES_MAX = 32, 10_000
"""an image is counted in square tiles; what has more of them is scaled down"""
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


def changes_of(image: Image) -> tuple[str, ...]:
    """What of this image does not arrive as it is: "image_size", "image_format". Raises ProviderFailure(INVALID_REQUEST)."""
    try:
        data = base64.b64decode(image.data, validate=True)
    except (binascii.Error, ValueError):
        raise _refused("An image is not valid base64.", "codex.request.image_base64") from None
    if not any(data.startswith(signature) for signature in _SIGNATURES.get(image.media_type, ())):
        raise _refused(
            "An image is not what its media type says; Codex takes PNG, JPEG, GIF and WebP.", "codex.request.image_type"
        )
    try:
        width, height = size(data)
    except (ValueError, IndexError, struct.error):
        width = height = 0
    if not (width and whole(data)):
        raise _refused("An image is damaged or incomplete.", "codex.request.image_damaged")
    tiles = -(-width // TILE_PIXELS) * -(-height // TILE_PIXELS)
    scaled = max(width, height) > SIDE_PIXELS_MAX or tiles > TILES_MAX
    return ("image_size",) * scaled + ("image_format",) * (image.media_type == "image/gif")


def _refused(sentence: str, evidence: str) -> ProviderFailure:
    return ProviderFailure(Kind.INVALID_REQUEST, sentence, evidence=evidence)
