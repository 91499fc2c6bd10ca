"""The tensor type table: sizes and reference dequantizers against the `gguf` package, an independent numpy implementation."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize as oracle_dequantize

from rwkvnative import _core
from rwkvnative.errors import InputError

TYPES = {entry["name"]: entry for entry in _core.dtypes()}
EXPECTED_TYPES = "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()

# Byte offsets of the binary16 fields of each block, from the format (and, by the test below, from nowhere else: a wrong
# offset makes random blocks contain NaNs and the comparison with the oracle still has to hold).
HALF_OFFSETS = {
    "F16": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}  # fmt: skip

HALVES = np.array(
    [0.0, -0.0, 1.0, -1.0, 65504.0, -65504.0, 6e-8, -6e-8, 6.1e-5, 6.05e-5, 0.1, -0.3, 1 / 3], dtype=np.float16
).view(np.uint16)


def oracle(raw: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        return oracle_dequantize(raw, GGMLQuantizationType[name]).reshape(-1)


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    """Exactly equal, with NaN equal to NaN: every product of the formats is exact in float32, so there is no tolerance."""
    assert got.dtype == np.float32 and got.shape == expected.shape
    assert np.array_equal(np.isnan(got), np.isnan(expected))
    kept = ~np.isnan(got)
    assert np.array_equal(got[kept].view(np.uint32), expected[kept].view(np.uint32))


def random_blocks(rng: np.random.Generator, name: str, n_blocks: int) -> np.ndarray:
    """Random codes and sub-scales; half of the scales are ordinary numbers, the rest extremes (zero, subnormal, largest)."""
    size = TYPES[name]["block_bytes"]
    raw = rng.integers(0, 256, (n_blocks, size), dtype=np.uint8)
    for offset in HALF_OFFSETS.get(name, []):
        ordinary = rng.standard_normal(n_blocks).astype(np.float16).view(np.uint16)
        halves = np.where(rng.random(n_blocks) < 0.5, ordinary, rng.choice(HALVES, n_blocks))
        raw[:, offset : offset + 2] = halves.astype("<u2").view(np.uint8).reshape(n_blocks, 2)
    return raw.reshape(-1)


def test_the_table_holds_exactly_the_documented_types():
    assert sorted(TYPES) == sorted(EXPECTED_TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_id_and_sizes(name):
    expected_id = GGMLQuantizationType[name]
    assert TYPES[name]["ggml_type"] == expected_id
    assert (TYPES[name]["block_values"], TYPES[name]["block_bytes"]) == GGML_QUANT_SIZES[expected_id]


@pytest.mark.parametrize("name", TYPES)
def test_dequantize_random_blocks(name):
    rng = np.random.default_rng(7)
    n_blocks = 512 if TYPES[name]["block_values"] > 1 else 20_000
    raw = random_blocks(rng, name, n_blocks)
    got = _core.dequantize(raw, TYPES[name]["ggml_type"], n_blocks * TYPES[name]["block_values"])
    assert_same_bits(got, oracle(raw, name))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80, 0x7F])
def test_dequantize_extreme_codes(name, fill):
    """All code bytes at an extreme, with every interesting scale."""
    raw = np.full((len(HALVES), TYPES[name]["block_bytes"]), fill, dtype=np.uint8)
    for offset in HALF_OFFSETS.get(name, []):
        raw[:, offset : offset + 2] = HALVES.astype("<u2").view(np.uint8).reshape(-1, 2)
    raw = raw.reshape(-1)
    got = _core.dequantize(raw, TYPES[name]["ggml_type"], len(HALVES) * TYPES[name]["block_values"])
    assert_same_bits(got, oracle(raw, name))


@pytest.mark.parametrize("name", [name for name in TYPES if name in HALF_OFFSETS])
def test_dequantize_infinite_and_nan_scales(name):
    """A broken file may hold any bits: the reference follows IEEE arithmetic like the oracle, without trapping."""
    rng = np.random.default_rng(11)
    bad = np.array([0x7C00, 0xFC00, 0x7E00, 0xFE01, 0x7C01], dtype="<u2")
    raw = rng.integers(0, 256, (len(bad), TYPES[name]["block_bytes"]), dtype=np.uint8)
    for offset in HALF_OFFSETS[name]:
        raw[:, offset : offset + 2] = bad.view(np.uint8).reshape(-1, 2)
    raw = raw.reshape(-1)
    got = _core.dequantize(raw, TYPES[name]["ggml_type"], len(bad) * TYPES[name]["block_values"])
    assert_same_bits(got, oracle(raw, name))


@pytest.mark.parametrize("name,dtype", [("F16", np.float16), ("BF16", None)])
def test_every_16_bit_pattern(name, dtype):
    bits = np.arange(1 << 16, dtype=np.uint16)
    expected = bits.view(np.float16).astype(np.float32) if dtype else (bits.astype(np.uint32) << 16).view(np.float32)
    assert_same_bits(_core.dequantize(bits, TYPES[name]["ggml_type"], bits.size), expected)


@pytest.mark.parametrize("name", TYPES)
def test_dequantize_from_an_odd_address(name):
    """A slice of an mmap'd file starts anywhere; the result does not change."""
    rng = np.random.default_rng(3)
    raw = random_blocks(rng, name, 8)
    shifted = np.concatenate([np.zeros(1, np.uint8), raw])[1:]
    n_values = 8 * TYPES[name]["block_values"]
    for buffer in (shifted, shifted.tobytes(), memoryview(shifted)):
        assert_same_bits(_core.dequantize(buffer, TYPES[name]["ggml_type"], n_values), oracle(raw, name))


def test_dequantize_nothing():
    for entry in TYPES.values():
        assert _core.dequantize(b"", entry["ggml_type"], 0).shape == (0,)


@pytest.mark.parametrize("name", TYPES)
def test_dequantize_rejects_wrong_sizes(name):
    entry = TYPES[name]
    raw = bytes(entry["block_bytes"] * 4)
    n_values = entry["block_values"] * 4
    for buffer, n in [(raw[:-1], n_values), (raw + b"\0", n_values), (raw, n_values + entry["block_values"]), (raw, 0), (raw, -n_values)]:
        with pytest.raises(InputError, match=r"\[dequantize\]"):
            _core.dequantize(buffer, entry["ggml_type"], n)
    if entry["block_values"] > 1:
        with pytest.raises(InputError, match=f"multiple of {entry['block_values']} for {name}"):
            _core.dequantize(raw, entry["ggml_type"], n_values - 1)


@pytest.mark.parametrize("ggml_type", [4, 5, 9, 15, 31, 36, 39, 9999, -1, 1 << 32, 1 << 40])
def test_unknown_types_name_themselves(ggml_type):
    pattern = rf"type {ggml_type} is not supported" if 0 <= ggml_type < 2**32 else "is not supported"
    with pytest.raises(InputError, match=pattern):
        _core.dequantize(b"", ggml_type, 0)
    with pytest.raises(InputError, match=pattern):
        _core.quantize(np.zeros((1, 256), np.float32), ggml_type)


def test_dequantize_rejects_what_is_not_a_buffer():
    with pytest.raises(InputError, match="contiguous buffer"):
        _core.dequantize("text", 0, 1)
    with pytest.raises(InputError, match="contiguous buffer"):
        _core.dequantize(np.zeros(16, np.uint8)[::2], 0, 2)
