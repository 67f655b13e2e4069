"""How many tokens a request may take, before anybody knows: what is held against a budget until the real usage is there.

An estimate that is rather too high than too low, as no vendor publishes its tokenizer. What is held and not used is given
back when the answer is there.
"""

import math

import msgspec

from llmux.prompts import Image, Prompt, ToolResult, size_bytes

BYTES_PER_TOKEN = 3
"""prose has about 4 bytes of UTF-8 a token, code and most other scripts about 3"""
IMAGE_TOKENS = 1_600
"""the most that Anthropic charges for an image; other vendors charge less"""
PROGRAM_TOKENS = 500
"""what a provider's program puts around a prompt: 0.6 KB in Gemini CLI, 1.1 KB in Claude Code, 1.7 KB in Codex"""
ANSWER_TOKENS = 4_096
"""held for an answer of which nobody says how long it may become"""


class Reservation(msgspec.Struct, frozen=True):
    """`input` is estimated; `answer` is the most tokens that the answer may have, None where the prompt does not say."""

    input: int
    answer: int | None

    @property
    def least(self) -> int:
        """What must be left of a budget: all that it may take, or, where nobody knows, at least one token of an answer."""
        return self.input + (1 if self.answer is None else self.answer)

    def within(self, left: int) -> int:
        """How much is held where `left` is left of the budget, which is no less than `least`."""
        return min(left, self.input + (ANSWER_TOKENS if self.answer is None else self.answer))


def reservation_of(prompt: Prompt) -> Reservation:
    """What a request with this prompt may take."""
    images = [piece for message in prompt.messages for part in message.parts for piece in _images(part)]
    text_bytes = size_bytes(prompt) - sum(len(image.data) for image in images)
    tokens = PROGRAM_TOKENS + math.ceil(text_bytes / BYTES_PER_TOKEN) + IMAGE_TOKENS * len(images)
    return Reservation(tokens, 0 if prompt.embedding is not None else prompt.sampling.max_tokens)


def _images(part: object) -> list[Image]:
    pieces = part.content if isinstance(part, ToolResult) else (part,)
    return [piece for piece in pieces if isinstance(piece, Image)]
