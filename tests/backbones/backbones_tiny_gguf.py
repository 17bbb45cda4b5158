"""A tiny Llama model as a GGUF file."""

from pathlib import Path

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel


def byte_vocabulary() -> list[str]:
    """An end token, all bytes, and two merges."""
    return ["<|endoftext|>", *sorted(ByteLevel.alphabet()), "th", "the"]


def write_gguf(path: Path, vocabulary: list[str]) -> dict[str, np.ndarray]:
    """A tiny Llama model in GGUF, as llama.cpp lays it out: one quantized matrix, the others plain."""
    width, forward, blocks = 32, 64, 2
    draw = np.random.default_rng(0)
    matrix = lambda *shape: draw.normal(0, 0.05, shape).astype(np.float32)  # noqa: E731
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_feed_forward_length(forward)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // 2)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] + [1] * (len(vocabulary) - 1))
    writer.add_token_merges(["t h", "th e"])
    for name in ("bos", "eos", "pad"):
        getattr(writer, f"add_{name}_token_id")(0)
    tensors = {
        "token_embd.weight": matrix(len(vocabulary), width),
        "output_norm.weight": np.ones(width, np.float32),
    }
    for i in range(blocks):
        shapes = {"attn_q": (width, width), "attn_k": (width, width), "attn_v": (width, width),
                  "attn_output": (width, width), "ffn_gate": (forward, width), "ffn_up": (forward, width),
                  "ffn_down": (width, forward)}  # fmt: skip
        tensors |= {f"blk.{i}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        tensors |= {f"blk.{i}.{n}.weight": np.ones(width, np.float32) for n in ("attn_norm", "ffn_norm")}
    for name, tensor in tensors.items():
        if name == "blk.0.ffn_up.weight":
            quantized = gguf.quants.quantize(tensor, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            tensors[name] = gguf.quants.dequantize(quantized, gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors
