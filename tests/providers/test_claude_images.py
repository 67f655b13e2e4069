"""Which images reach the model as they are."""

import base64
import struct

import pytest

from llmux.failures import Kind, ProviderFailure
from llmux.images import size
from llmux.prompts import Image, Message, Prompt, Text, ToolResult
from llmux.providers.claude.frames import frames_of
from llmux.providers.claude.images import IMAGE_BYTES_MAX, arrives_changed


def png(width: int, height: int, length: int = 40) -> bytes:
    return (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + struct.pack(">II", width, height)).ljust(length, b"\0")


def jpeg(width: int, height: int) -> bytes:
    comment = b"\xff\xfe" + struct.pack(">H", 2 + 300) + b"\xff\xc0" * 150
    return (
        b"\xff\xd8\xff\xff\xff\xe0\0\x04ab"
        + comment
        + b"\xff\xc2\0\x11\x08"
        + struct.pack(">HH", height, width)
        + bytes(9)
    )


def webp(kind: bytes, rest: bytes) -> bytes:
    return b"RIFF\0\0\0\0WEBP" + kind + b"\0\0\0\0" + rest


def image(data: bytes) -> Image:
    return Image("image/png", base64.b64encode(data).decode())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (png(3, 70_000), (3, 70_000)),
        (b"GIF89a" + struct.pack("<HH", 640, 480), (640, 480)),
        (jpeg(2001, 17), (2001, 17)),
        (webp(b"VP8 ", bytes(6) + struct.pack("<HH", 0x4000 | 300, 200)), (300, 200)),
        (webp(b"VP8L", b"\x2f" + struct.pack("<I", 299 | 199 << 14) + bytes(6)), (300, 200)),
        (webp(b"VP8X", bytes(4) + (2999).to_bytes(3, "little") + (9).to_bytes(3, "little")), (3000, 10)),
    ],
    ids=["png", "gif", "jpeg", "webp", "lossless webp", "extended webp"],
)
def test_the_size_of_every_kind_is_read(data: bytes, found: tuple[int, int]) -> None:
    assert size(data) == found


@pytest.mark.parametrize(
    ("data", "changed"),
    [
        (png(2000, 2000), False),
        (png(2001, 1), True),
        (png(1, 2001), True),
        (png(9, 9, IMAGE_BYTES_MAX), False),
        (png(9, 9, IMAGE_BYTES_MAX + 1), True),
    ],
)
def test_images_up_to_a_size_arrive_as_they_are(data: bytes, changed: bool) -> None:
    assert arrives_changed(image(data)) is changed
    frames = frames_of(Prompt((Message("user", (image(data),)),)))
    assert frames.ignored == (("image_size",) if changed else ())


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", png(0, 5), b"\xff\xd8\xff\xe0\0\x04ab", webp(b"VP9 ", bytes(20))]
)
def test_what_is_no_image_is_refused_wherever_it_stands(data: bytes) -> None:
    """The CLI would put a sentence in its place."""
    inside = Message("user", (ToolResult("c1", (image(png(9, 9)), image(data))), Text("so?")))
    for message in (Message("user", (image(png(3000, 9)), image(data))), inside):
        with pytest.raises(ProviderFailure) as caught:
            frames_of(Prompt((message,)))
        assert (caught.value.kind, caught.value.evidence) == (Kind.INVALID_REQUEST, "claude.prompt_image")
