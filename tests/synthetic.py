"""Random but well-behaved rwkv7 models as GGUF, for tests.

`make_model(path, ...)` writes a file with the gguf package's own writer; `build_model(...)` gives the same model in
memory. Names, shapes and metadata keys are those that llama.cpp's converter writes; shapes in GGML order, ne0 first.
Nothing here uses rwkvnative: the blocks come from gguf.quants or are random valid bytes, so a test that reads them
back with gguf.quants.dequantize is independent of our C++.

The weights have the magnitudes of a trained model where it matters: the decay ramp of the official initialisation,
unit-variance matrix products, LoRA outputs of about one half; logits come out O(1..10) and the state stays bounded
(the transition diag(w) - kk (kk*a)^T has norm below one).
"""

from __future__ import annotations

import functools
import mmap
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as GgmlType

# Every tensor type the package must read. Order: floats, 32-value blocks, 256-value blocks.
FLOAT_TYPES = ("F32", "F16", "BF16")
BLOCK32_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")
BLOCK256_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
ALL_TYPES = FLOAT_TYPES + BLOCK32_TYPES + BLOCK256_TYPES

# What llama-quantize uses instead when a row is not a whole number of 256-value blocks.
FALLBACK_TYPES = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}

MATRICES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key",
            "channel_mix_value")


@dataclass(frozen=True)
class Shape:
    """Hyper-parameters of a model. ranks = (decay, iclr, value, gate)."""

    n_layer: int = 2
    n_embd: int = 64
    head_size: int = 64
    n_ff: int = 256
    n_vocab: int = 300
    ranks: tuple[int, int, int, int] = (32, 32, 16, 64)
    norm_eps: float = 1e-5
    context_length: int = 4096

    def __post_init__(self) -> None:
        if self.n_embd % self.head_size:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of head_size {self.head_size}")

    @property
    def n_head(self) -> int:
        return self.n_embd // self.head_size


@dataclass(frozen=True)
class Tensor:
    """One tensor as it lies in the file: `data` is uint8, flat; `ne` is the GGML shape, ne0 first."""

    name: str
    ggml_type: GgmlType
    ne: tuple[int, ...]
    data: np.ndarray

    def dequantized(self) -> np.ndarray:
        """float32, numpy shape (`ne` reversed)."""
        rows = self.data.reshape(-1, gguf.quant_shape_to_byte_shape((self.ne[0],), self.ggml_type)[0])
        if self.ggml_type == GgmlType.F16:  # gguf.quants.dequantize would expect a float16 view
            values = rows.view(np.float16)
        elif self.ggml_type == GgmlType.F32:
            values = rows.view(np.float32)
        else:
            values = gguf.quants.dequantize(rows, self.ggml_type)
        return values.astype(np.float32).reshape(self.ne[::-1])


@dataclass
class SyntheticModel:
    """A model in memory. `tokens` holds the bytes of each token, `token_types` gguf.TokenType numbers."""

    shape: Shape
    tensors: dict[str, Tensor]
    tokens: list[bytes]
    token_types: list[int]
    metadata: dict[str, object] = field(default_factory=dict)

    def packed(self, alignment: int = 32) -> tuple[list[tuple[str, int, tuple[int, ...], int, int]], np.ndarray]:
        """The tensors one after the other in one buffer, in pages of its own as a file's: Metal takes nothing of malloc's.

        Returns ([(name, ggml_type, ne, offset, n_bytes)], uint8 data): what rwkvnative._core.Engine takes.
        """
        entries = []
        offset = 0
        for t in self.tensors.values():
            entries.append((t.name, int(t.ggml_type), t.ne, offset, t.data.nbytes))
            offset += -(-t.data.nbytes // alignment) * alignment
        data = np.frombuffer(mmap.mmap(-1, offset), dtype=np.uint8)
        for (_, _, _, start, n_bytes), t in zip(entries, self.tensors.values(), strict=True):
            data[start:start + n_bytes] = t.data
        return entries, data


# ---------------------------------------------------------------------------------------------------------- weights


def random_weights(shape: Shape, seed: int = 0, *, block0_value: bool = True) -> dict[str, np.ndarray]:
    """name -> float32 array in numpy order (GGML shape reversed), in the order of the file.

    block0_value: write the unused v0/v1/v2 of block 0, as copies of a0/a1/a2, as the converter does.
    """
    rng = np.random.default_rng(seed)
    c, f, v = shape.n_embd, shape.n_ff, shape.n_vocab
    decay, iclr, value, gate = shape.ranks
    channel = np.arange(c) / max(c - 1, 1)
    weights: dict[str, np.ndarray] = {}

    def put(name: str, array: np.ndarray) -> None:
        weights[name] = np.ascontiguousarray(array, dtype=np.float32)

    def normal(rows: int, cols: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal((rows, cols)) * (scale / np.sqrt(cols))

    def norm(name: str, width: int = c) -> None:
        put(f"{name}.weight", 1 + 0.1 * rng.standard_normal(width))
        put(f"{name}.bias", 0.1 * rng.standard_normal(width))

    put("token_embd.weight", rng.standard_normal((v, c)) * 0.5)
    norm("token_embd_norm")
    for i in range(shape.n_layer):
        b = f"blk.{i}."
        depth = i / max(shape.n_layer - 1, 1)
        norm(b + "attn_norm")
        norm(b + "attn_norm_2")
        lerp = rng.uniform(0, 1, (6, 1, 1, c))
        put(b + "time_mix_lerp_fused.weight", lerp)
        # Official initialisation: w0 = -7 + 5 ramp^(0.85 + sqrt(depth)) + 0.5, slow to fast decay over the channels.
        put(b + "time_mix_w0.weight", -6.5 + 5 * channel ** (0.85 + depth ** 0.5) + 0.3 * rng.standard_normal(c))
        put(b + "time_mix_w1.weight", normal(decay, c))
        put(b + "time_mix_w2.weight", normal(c, decay, 0.5))
        put(b + "time_mix_a0.weight", 0.5 * rng.standard_normal(c))
        put(b + "time_mix_a1.weight", normal(iclr, c))
        put(b + "time_mix_a2.weight", normal(c, iclr, 0.5))
        if i > 0:
            put(b + "time_mix_v0.weight", 0.7 + 0.3 * rng.standard_normal(c))
            put(b + "time_mix_v1.weight", normal(value, c))
            put(b + "time_mix_v2.weight", normal(c, value, 0.5))
        elif block0_value:
            for n in "012":
                put(b + f"time_mix_v{n}.weight", weights[b + f"time_mix_a{n}.weight"])
        put(b + "time_mix_g1.weight", normal(gate, c))
        put(b + "time_mix_g2.weight", normal(c, gate, 2.0))  # sigmoid(0) = 1/2 enters: a gate of order one
        put(b + "time_mix_k_k.weight", 0.85 + 0.1 * rng.standard_normal(c))
        put(b + "time_mix_k_a.weight", 1.0 + 0.05 * rng.standard_normal(c))
        put(b + "time_mix_r_k.weight", 0.1 * rng.standard_normal(c))
        put(b + "time_mix_receptance.weight", normal(c, c))
        put(b + "time_mix_key.weight", normal(c, c, 0.5))
        put(b + "time_mix_value.weight", normal(c, c))
        # The two matrices that write to the residual stream: one half, so that a layer adds to it and does not replace it.
        # At one, rounding of the activations grows with every layer, in a way that no trained model shows.
        put(b + "time_mix_output.weight", normal(c, c, 0.5))
        norm(b + "time_mix_ln")
        put(b + "channel_mix_lerp_k.weight", rng.uniform(0, 1, c))
        put(b + "channel_mix_key.weight", normal(f, c))
        put(b + "channel_mix_value.weight", normal(c, f, 0.5))
    norm("output_norm")
    put("output.weight", normal(v, c, 2.0))
    return weights


# ----------------------------------------------------------------------------------------------------------- blocks

# Where the float16 scales (and mins) lie in a block, and min/scale so that the mean of random codes is about zero.
# Offsets from the struct definitions in ggml-common.h (block_q2_K .. block_iq4_xs).
_SCALE_FIELDS = {
    "Q2_K": (80, 82, 1.5), "Q3_K": (108, None, 0.0), "Q4_K": (0, 2, 7.5), "Q5_K": (0, 2, 15.5), "Q6_K": (208, None, 0.0),
    "IQ4_NL": (0, None, 0.0), "IQ4_XS": (0, None, 0.0),
}


def _random_codes(rng: np.random.Generator, type_name: str, n_blocks: int, scale: np.ndarray) -> np.ndarray:
    """Blocks [n_blocks, block_bytes] of uniformly random codes and sub-scales under the given float16 scales."""
    d_offset, min_offset, min_ratio = _SCALE_FIELDS[type_name]
    block_bytes = gguf.GGML_QUANT_SIZES[GgmlType[type_name]][1]
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=np.uint8)
    blocks[:, d_offset:d_offset + 2] = scale.astype(np.float16).reshape(-1, 1).view(np.uint8)
    if min_offset is not None:
        mins = (scale * min_ratio).astype(np.float16)
        blocks[:, min_offset:min_offset + 2] = mins.reshape(-1, 1).view(np.uint8)
    return blocks


@functools.cache
def _unit_deviation(type_name: str) -> float:
    """Standard deviation of random blocks of scale 1."""
    blocks = _random_codes(np.random.default_rng(0), type_name, 512, np.ones(512))
    return float(gguf.quants.dequantize(blocks, GgmlType[type_name]).std())


def random_blocks(rng: np.random.Generator, type_name: str, rows: int, cols: int, deviation: float) -> np.ndarray:
    """uint8 [rows, row bytes]: a valid random matrix of a type that gguf.quants cannot write.

    Each block's scale varies by a quarter; types without a min also get negative scales, as real quantizers write.
    """
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[GgmlType[type_name]]
    n_blocks = rows * cols // block_values
    scale = rng.uniform(0.75, 1.25, n_blocks) * deviation / _unit_deviation(type_name)
    if _SCALE_FIELDS[type_name][1] is None:
        scale *= rng.choice((-1.0, 1.0), n_blocks)
    return _random_codes(rng, type_name, n_blocks, scale).reshape(rows, cols // block_values * block_bytes)


def encode(name: str, array: np.ndarray, type_name: str, rng: np.random.Generator | None = None) -> Tensor:
    """A float32 array (numpy order) as a tensor of the type.

    Types that gguf.quants can write hold the array's values rounded; for the others only its shape and standard
    deviation are kept and the values are random (`rng` is then required).
    """
    ggml_type = GgmlType[type_name]
    block_values = gguf.GGML_QUANT_SIZES[ggml_type][0]
    if array.shape[-1] % block_values:
        raise ValueError(f"{name}: a row of {array.shape[-1]} values is not a whole number of {type_name} blocks "
                         f"({block_values}); pass fallback=True for llama-quantize's substitute")
    if type_name in _SCALE_FIELDS:
        if rng is None:
            raise ValueError(f"{name}: {type_name} blocks are random and need an rng")
        cols = array.shape[-1]
        data = random_blocks(rng, type_name, array.size // cols, cols, float(array.std()))
    else:
        data = gguf.quants.quantize(array, ggml_type)
    return Tensor(name, ggml_type, tuple(array.shape[::-1]), np.ascontiguousarray(data).view(np.uint8).reshape(-1))


def _type_of(name: str, array: np.ndarray, *, type: str, lora_type: str, embed_type: str | None, head_type: str | None,
             types: dict[str, str], fallback: bool) -> str:
    """The type a tensor is written in; the converter's rule for what stays F32."""
    leaf = name.removesuffix(".weight").rsplit(".", 1)[-1]
    chosen = "F32"
    if name == "token_embd.weight":
        chosen = embed_type or type
    elif name == "output.weight":
        chosen = head_type or type
    elif leaf in MATRICES:
        chosen = type
    elif array.ndim == 2:  # w1 w2 a1 a2 v1 v2 g1 g2
        chosen = lora_type
    for pattern, override in types.items():
        if fnmatch(name, pattern) or fnmatch(leaf, pattern):
            chosen = override
    while fallback and array.shape[-1] % gguf.GGML_QUANT_SIZES[GgmlType[chosen]][0]:
        chosen = FALLBACK_TYPES.get(chosen, "F16")
    return chosen


# ------------------------------------------------------------------------------------------------------- vocabulary

_TEXTS = ("the and ing ion tion er he she with from this that for was are have had not but what when where who which "
          "rwkv model state token user assistant system hello world é ü ñ ß привет мир 你好 世界 ありがとう 안녕 مرحبا שלום "
          "🙂 🚀 \\ \" ' \\n '\" {} () => != == // /* */ 0 00 123 2026").split(" ")


def world_tokens(n_vocab: int, seed: int = 0, n_unused: int = 0) -> tuple[list[bytes], list[int]]:
    """A World-format vocabulary: (token bytes, gguf.TokenType numbers).

    id 0 is the control token `<s>`, ids 1..256 are the single bytes, then white-space pairs so that 261 is "\\n\\n" as in
    the real vocabulary, then words, then random byte strings (not all UTF-8); the last n_unused are `[PADn]`.
    A short vocabulary is cut off.
    """
    rng = np.random.default_rng(seed)
    tokens = [b"<s>"] + [bytes([i]) for i in range(256)]
    tokens += [b"\t\t", b"\t\n", b"\t ", b"\n\t", b"\n\n", b"\n ", b" \t", b" \n", b"  ", b"\r\n"]
    seen = set(tokens)
    for text in _TEXTS:
        for token in (text.encode(), b" " + text.encode()):
            if token and token not in seen:
                seen.add(token)
                tokens.append(token)
    while len(tokens) < n_vocab:
        token = bytes(rng.integers(0, 256, rng.integers(2, 9), dtype=np.uint8))
        if token not in seen:
            seen.add(token)
            tokens.append(token)
    tokens = tokens[:n_vocab - n_unused] + [f"[PAD{i}]".encode() for i in range(n_vocab - n_unused, n_vocab)]
    types = [gguf.TokenType.NORMAL] * n_vocab
    types[0] = gguf.TokenType.CONTROL
    for i in range(n_vocab - n_unused, n_vocab):
        types[i] = gguf.TokenType.UNUSED
    return tokens, [int(t) for t in types]


def escape_token(token: bytes) -> str:
    """World token bytes as the converter stores them: repr(bytes) without b and quotes."""
    return repr(token)[2:-1]


# ------------------------------------------------------------------------------------------------------------ model


def build_model(*, n_layer: int = 2, n_embd: int = 64, head_size: int = 64, n_ff: int | None = None, n_vocab: int = 300,
                ranks: tuple[int, int, int, int] = (32, 32, 16, 64), type: str = "F32", lora_type: str = "F32",
                embed_type: str | None = None, head_type: str | None = None, types: dict[str, str] | None = None,
                fallback: bool = False, seed: int = 0, block0_value: bool = True, lerp_k_ndim: int = 1,
                n_unused: int = 0, norm_eps: float = 1e-5, metadata: dict[str, object] | None = None) -> SyntheticModel:
    """A random model in memory.

    n_ff: default 4 n_embd.  ranks: LoRA ranks (decay, iclr, value, gate).
    type: of the six block matrices, the embedding and the head; embed_type / head_type override it for those two;
    lora_type: of w/a/v/g 1 and 2; 1-D tensors, norms and lerps are F32 always.
    types: {pattern: type} overrides, fnmatch on the full name or its leaf ("blk.0.*", "time_mix_key"), last match wins.
    fallback: take llama-quantize's substitute where a row is not a whole number of blocks, instead of ValueError.
    block0_value: whether block 0 carries the unused v0/v1/v2.  lerp_k_ndim: 1 or 3 dimensions of channel_mix_lerp_k.
    n_unused: how many of the last tokens are `[PADn]`.  metadata: key -> value to write beside or instead of the usual.
    """
    shape = Shape(n_layer, n_embd, head_size, n_ff or 4 * n_embd, n_vocab, tuple(ranks), norm_eps)
    weights = random_weights(shape, seed, block0_value=block0_value)
    if lerp_k_ndim == 3:
        for i in range(n_layer):
            name = f"blk.{i}.channel_mix_lerp_k.weight"
            weights[name] = weights[name].reshape(1, 1, n_embd)
    rng = np.random.default_rng([seed, 1])
    tensors = {}
    for name, array in weights.items():
        chosen = _type_of(name, array, type=type, lora_type=lora_type, embed_type=embed_type, head_type=head_type,
                          types=types or {}, fallback=fallback)
        tensors[name] = encode(name, array, chosen, rng)
    tokens, token_types = world_tokens(n_vocab, seed, n_unused)
    return SyntheticModel(shape, tensors, tokens, token_types, metadata or {})


def standard_metadata(model: SyntheticModel) -> dict[str, object]:
    """The metadata of an rwkv7 file, as llama.cpp's converter writes it, less the token list."""
    s = model.shape
    decay, iclr, value, gate = s.ranks
    return {
        "general.name": "synthetic",
        "general.file_type": np.uint32(0),
        "rwkv7.context_length": np.uint32(s.context_length),
        "rwkv7.embedding_length": np.uint32(s.n_embd),
        "rwkv7.block_count": np.uint32(s.n_layer),
        "rwkv7.attention.layer_norm_epsilon": np.float32(s.norm_eps),
        "rwkv7.wkv.head_size": np.uint32(s.head_size),
        "rwkv7.attention.decay_lora_rank": np.uint32(decay),
        "rwkv7.attention.iclr_lora_rank": np.uint32(iclr),
        "rwkv7.attention.value_residual_mix_lora_rank": np.uint32(value),
        "rwkv7.attention.gate_lora_rank": np.uint32(gate),
        "rwkv7.feed_forward_length": np.uint32(s.n_ff),
        "rwkv7.attention.head_count": np.uint32(0),
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.bos_token_id": np.uint32(0),
        "tokenizer.ggml.eos_token_id": np.uint32(0),
        "tokenizer.ggml.eot_token_id": np.uint32(261 if s.n_vocab > 261 else 0),
        "tokenizer.chat_template": "rwkv-world",
    }


def _add_value(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    kinds = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32,
             np.uint32: writer.add_uint32, np.int32: writer.add_int32, np.uint64: writer.add_uint64,
             np.float32: writer.add_float32, list: writer.add_array}
    add = kinds[value.__class__]
    add(key, value.item() if isinstance(value, np.generic) else value)


def write_model(path: str | Path, model: SyntheticModel) -> None:
    """Write the model as a GGUF v3 file. A metadata entry of None leaves the standard key out."""
    metadata = {**standard_metadata(model), **model.metadata}
    writer = gguf.GGUFWriter(path, str(metadata.pop("general.architecture", "rwkv7")))
    for key, value in metadata.items():
        if value is not None:
            _add_value(writer, key, value)
    writer.add_token_list([escape_token(t) for t in model.tokens])
    writer.add_token_types(model.token_types)
    for t in model.tensors.values():
        row_bytes = gguf.quant_shape_to_byte_shape((t.ne[0],), t.ggml_type)[0]
        writer.add_tensor(t.name, t.data.reshape(*t.ne[:0:-1], row_bytes), raw_dtype=t.ggml_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_model(path: str | Path, **options: object) -> SyntheticModel:
    """`build_model(**options)`, written to `path`; returns the model that was written."""
    model = build_model(**options)
    write_model(path, model)
    return model


def read_model(path: str | Path) -> SyntheticModel:
    """A file that `write_model` (or python/tools/make_fixtures.py) wrote, back in memory; without its vocabulary."""
    reader = gguf.GGUFReader(path)

    def key(name: str) -> int:
        return reader.fields[f"rwkv7.{name}"].contents()

    tensors = {t.name: Tensor(t.name, t.tensor_type, tuple(int(n) for n in t.shape),
                              np.ascontiguousarray(t.data).view(np.uint8).reshape(-1)) for t in reader.tensors}
    ranks = tuple(key(f"attention.{name}_lora_rank") for name in ("decay", "iclr", "value_residual_mix", "gate"))
    shape = Shape(key("block_count"), key("embedding_length"), key("wkv.head_size"), key("feed_forward_length"),
                  tensors["output.weight"].ne[1], ranks, key("attention.layer_norm_epsilon"), key("context_length"))
    return SyntheticModel(shape, tensors, [], [])
