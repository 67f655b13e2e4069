"""How many tokens a prompt may have. An estimate: no vendor publishes its tokenizer, and no CLI counts without asking a model.

Each character weighs what characters of its kind cost on average; the weights were fitted to the tokenizer that Anthropic once
published (prose, code, JSON, several scripts: mostly within 15 %). Newer models count up to a third more. Images follow the rule
that Anthropic documents. Equal prompts get equal figures, in time linear in their size.
"""

import base64
import binascii
import math
import string
import struct

from llmux.images import size
from llmux.prompts import Image, Prompt, Text, ToolCall

_LETTERS = string.ascii_letters.encode()
_DIGITS = string.digits.encode()
_SIGNS = bytes(code for code in range(33, 127) if chr(code) in string.punctuation)
_WEIGHTS: tuple[tuple[bytes, int], ...] = (
    (_LETTERS, 235),
    (_DIGITS + _SIGNS, 700),
    (b"\n", 550),
    (bytes(range(0xC0, 0xE0)), 650),
    (bytes(range(0xE0, 0xF0)), 1_100),
    (bytes(range(0xF0, 0xF8)), 2_500),
)
"""kinds of characters by their first byte in UTF-8, and what one costs in thousandths of a token; other blanks cost nothing"""

PROMPT_TOKENS, MESSAGE_TOKENS = 4, 3
"""what a prompt, and each of its messages, costs beside its text"""
PIXELS_PER_TOKEN, SIDE_PIXELS_MAX, IMAGE_TOKENS_MAX = 750, 1_568, 1_600
"""an image is scaled down to the longest side and to the most tokens"""
HEAD_CHARS = 262_144
"""of an image's base64, that its size is looked for in: a crafted JPEG can keep its reader busy to its last byte"""


def tokens_of(prompt: Prompt, tools: bytes = b"") -> int:
    """The estimated input tokens of a prompt, and of the JSON of the tools that go with it."""
    texts, images = [prompt.system], []
    for message in prompt.messages:
        for part in message.parts:
            pieces = part.content if not isinstance(part, Text | Image | ToolCall) else (part,)
            for piece in pieces:
                if isinstance(piece, Image):
                    images.append(piece)
                else:
                    texts.append(piece.text if isinstance(piece, Text) else f"{piece.name}\n{piece.arguments}")
    if prompt.json_schema:
        texts.append(str(prompt.json_schema))
    weight = sum(_weight(text.encode("utf-8", "replace")) for text in texts) + _weight(tools)
    framing = PROMPT_TOKENS + MESSAGE_TOKENS * len(prompt.messages)
    return framing + math.ceil(weight / 1000) + sum(_image_tokens(image) for image in images)


def _weight(text: bytes) -> int:
    """In thousandths of a token."""
    return sum((len(text) - len(text.translate(None, kind))) * weight for kind, weight in _WEIGHTS)


def _image_tokens(image: Image) -> int:
    """By its pixels; one whose size is not found counts as the largest."""
    try:
        width, height = size(base64.b64decode(image.data[:HEAD_CHARS]))
    except (binascii.Error, ValueError, struct.error, IndexError):
        return IMAGE_TOKENS_MAX
    longest = max(width, height, SIDE_PIXELS_MAX)
    pixels = width * height * SIDE_PIXELS_MAX**2 / longest**2
    return min(IMAGE_TOKENS_MAX, max(1, math.ceil(pixels / PIXELS_PER_TOKEN)))
