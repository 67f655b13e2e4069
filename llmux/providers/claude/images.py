"""What Claude Code does to an image on its way: nothing to a small one; a large one is made smaller or coarser.

One that it cannot make out would be replaced by a sentence about that, which is no image: such a prompt is refused.
"""

import base64
import binascii
import struct

from llmux.failures import Kind, ProviderFailure
from llmux.images import size
from llmux.prompts import Image

SIDE_PIXELS_MAX = 2_000
"""a larger side is scaled down to this, and a line of text tells the model so"""
IMAGE_BYTES_MAX = 512_000
"""what is larger is turned into a JPEG below this"""


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
