"""Images in requests, which must come inline: the gateway fetches nothing on behalf of others. Pure."""

import base64
import binascii
import re

from llmux.failures import ClientFailure
from llmux.prompts import Image

_DATA_URL = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,", re.IGNORECASE)
MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def image_in(url: str, where: str) -> Image:
    """The image in a `data:` URL. Raises ClientFailure, for every other URL too; `where` names the field."""
    head = _DATA_URL.match(url)
    if head is None:
        raise ClientFailure(
            "Images must come inline, as data:image/png;base64,… (png, jpeg, gif or webp). URLs are not fetched.",
            param=where,
            code="unsupported_image",
        )
    return image_of(head.group(1).lower(), url[head.end() :], where)


def image_of(media_type: str, data: str, where: str) -> Image:
    """An image given as base64. Raises ClientFailure when it is none, or of a type that is not taken."""
    if media_type not in MEDIA_TYPES:
        raise ClientFailure("Images are taken as png, jpeg, gif or webp.", param=where, code="unsupported_image")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise ClientFailure("The image is not valid base64.", param=where, code="unsupported_image")
    return Image(media_type, data)
