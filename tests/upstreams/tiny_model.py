"""A language model of half a megabyte with random weights, in Ollama's file format (GGUF).

It babbles, but it is a real model: it has a vocabulary, counts tokens, stops, and says the same again for the same seed.
"""

from pathlib import Path

import gguf
import numpy as np

CONTEXT_TOKENS = 512
_WIDTH, _HEADS, _LAYERS, _FEED_FORWARD = 64, 4, 2, 128
_START, _END, _UNKNOWN = 1, 2, 0
_WORDS = [
    "the",
    "a",
    "and",
    "to",
    "of",
    "is",
    "in",
    "on",
    "it",
    "you",
    "sky",
    "blue",
    "hello",
    "world",
    "test",
    "gateway",
]


def _vocabulary() -> tuple[list[str], list[gguf.TokenType], list[float]]:
    """Three control tokens, the 256 bytes (so that any text can be read), some words and the printable characters."""
    control = ["<unk>", "<s>", "</s>"]
    octets = [f"<0x{value:02X}>" for value in range(256)]
    space = "\u2581"  # how this tokenizer writes a space
    words = [space + word for word in _WORDS] + [space] + [chr(code) for code in range(33, 127)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * len(octets) + [gguf.TokenType.NORMAL] * len(words)
    scores = [0.0] * len(control) + [-1000.0] * len(octets) + [-float(rank) for rank in range(len(words))]
    return control + octets + words, kinds, scores


def _tensors(tokens: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)

    def weights(*shape: int, scale: float) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    ones, narrow = np.ones(_WIDTH, np.float32), _WIDTH**-0.5
    output = weights(tokens, _WIDTH, scale=0.35)
    output[:259] = 0  # control and byte tokens are seldom chosen,
    output[_END] = -0.02  # but an answer may end by itself
    tensors = {"token_embd.weight": weights(tokens, _WIDTH, scale=1.0), "output_norm.weight": ones}
    tensors["output.weight"] = output
    for layer in range(_LAYERS):
        block = f"blk.{layer}."
        tensors |= {block + "attn_norm.weight": ones, block + "ffn_norm.weight": ones}
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = weights(_WIDTH, _WIDTH, scale=narrow)
        for name in ("ffn_gate", "ffn_up"):
            tensors[f"{block}{name}.weight"] = weights(_FEED_FORWARD, _WIDTH, scale=narrow)
        tensors[block + "ffn_down.weight"] = weights(_WIDTH, _FEED_FORWARD, scale=_FEED_FORWARD**-0.5)
    return tensors


def write_tiny_model(path: Path, seed: int = 1) -> None:
    """Writes the model to `path`."""
    tokens, kinds, scores = _vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-random")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.encode() for token in tokens])
    writer.add_token_scores(scores)
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_bos_token_id(_START)
    writer.add_eos_token_id(_END)
    writer.add_unk_token_id(_UNKNOWN)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    for name, tensor in _tensors(len(tokens), seed).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
