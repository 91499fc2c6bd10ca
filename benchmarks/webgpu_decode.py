"""Decode speed of the WebGPU backend on synthetic models of the published sizes, with the time of every kernel.

    python benchmarks/webgpu_decode.py [--sizes 0.1b 1.5b 2.9b] [--types Q4_K_M] [--tuning "workgroup=128" ...] [--profile 5]

A model's weights are random valid blocks made in memory. A line of the output: size, types, tuning constants, tokens per
second (wall clock, greedy, batch 1, after --warm seconds), microseconds of a submit on the host, and with --profile the
microseconds that each kind of kernel takes in one token (timestamps around each dispatch, so gaps are not in it).
"""

from __future__ import annotations

import argparse
import json
import time

import gguf
import numpy as np

from rwkvnative import _core

# layers, width, feed-forward width, LoRA ranks (decay, iclr, value, gate)
SIZES = {"tiny": (3, 256, 1024, (32, 32, 32, 64)), "0.1b": (12, 768, 3072, (64, 64, 32, 128)), "0.4b": (24, 1024, 4096, (64, 64, 32, 128)),
         "1.5b": (24, 2048, 8192, (96, 96, 64, 256)), "2.9b": (32, 2560, 10240, (96, 96, 64, 320))}
VOCABULARY = 65536
# block type, embedding type, head type, as llama-quantize mixes them
MIXES = {"Q4_K_M": ("Q4_K", "Q4_K", "Q6_K"), "Q5_K_M": ("Q5_K", "Q5_K", "Q6_K"), "Q6_K": ("Q6_K", "Q6_K", "Q6_K"),
         "Q8_0": ("Q8_0", "Q8_0", "Q8_0"), "F16": ("F16", "F16", "F16")}
SCALES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q8_0": (0,)}  # where a block's float16 scales are


class Builder:
    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.tensors: list[tuple[str, int, tuple[int, ...], int, int]] = []
        self.parts: list[np.ndarray] = []
        self.offset = 0
        self.patterns: dict[str, np.ndarray] = {}

    def add(self, name: str, ne: tuple[int, ...], type_name: str, data: np.ndarray | None = None) -> None:
        n_values = int(np.prod(ne))
        data = self.pattern(type_name, n_values) if data is None else data
        self.tensors.append((name, int(gguf.GGMLQuantizationType[type_name]), ne, self.offset, data.nbytes))
        padding = -data.nbytes % 32
        self.parts.append(data)
        self.parts.append(np.zeros(padding, np.uint8))
        self.offset += data.nbytes + padding

    def pattern(self, type_name: str, n_values: int) -> np.ndarray:
        """Random bytes of a type, a pattern of a few megabytes repeated."""
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name]]
        if type_name not in self.patterns:
            n = 1 << 16
            if type_name in ("F32", "F16"):
                values = self.rng.standard_normal(n * 16).astype(np.float32 if type_name == "F32" else np.float16) * 0.02
                self.patterns[type_name] = values.astype(values.dtype).view(np.uint8)
            else:
                blocks = self.rng.integers(0, 256, (n // (8 if block_values == 256 else 1), block_bytes), dtype=np.uint8)
                for at in SCALES[type_name]:
                    blocks[:, at:at + 2] = np.full((len(blocks), 1), 1e-4, np.float16).view(np.uint8)
                self.patterns[type_name] = blocks.reshape(-1)
        return np.resize(self.patterns[type_name], n_values // block_values * block_bytes)

    def vector(self, name: str, n: int, value: float = 0.0, rows: int = 1) -> None:
        values = (value + 0.1 * self.rng.standard_normal(n * rows)).astype(np.float32)
        self.add(name, (n, 1, 1, rows) if rows > 1 else (n,), "F32", values.view(np.uint8))


def build(size: str, mix: str) -> tuple[dict[str, float], list, np.ndarray]:
    """(config, tensors, data) as rwkvnative._core.Engine takes them."""
    layers, c, f, (decay, iclr, value, gate) = SIZES[size]
    block, embed, head = MIXES[mix]
    b = Builder()
    b.add("token_embd.weight", (c, VOCABULARY), embed)
    for name in ("token_embd_norm", "output_norm"):
        b.vector(f"{name}.weight", c, 1.0)
        b.vector(f"{name}.bias", c)
    for i in range(layers):
        p = f"blk.{i}."
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            b.vector(f"{p}{name}.weight", c, 1.0)
            b.vector(f"{p}{name}.bias", c)
        b.vector(f"{p}time_mix_lerp_fused.weight", c, 0.5, rows=6)
        b.vector(f"{p}channel_mix_lerp_k.weight", c, 0.5)
        for name in ("w0", "a0", "v0", "k_k", "k_a", "r_k"):
            b.vector(f"{p}time_mix_{name}.weight", c, -1.0 if name == "w0" else 0.5)
        # What the converter writes: the decay LoRA in F32, the others in F16.
        for z, rank, type_name in (("w", decay, "F32"), ("a", iclr, "F16"), ("v", value, "F16"), ("g", gate, "F16")):
            b.add(f"{p}time_mix_{z}1.weight", (c, rank), type_name)
            b.add(f"{p}time_mix_{z}2.weight", (rank, c), type_name)
        for name in ("receptance", "key", "value", "output"):
            b.add(f"{p}time_mix_{name}.weight", (c, c), block)
        b.add(f"{p}channel_mix_key.weight", (c, f), block)
        b.add(f"{p}channel_mix_value.weight", (f, c), block)
    b.add("output.weight", (c, VOCABULARY), head)
    config = {"n_layer": layers, "n_embd": c, "n_ff": f, "head_size": 64, "n_vocab": VOCABULARY, "context_length": 4096,
              "layer_norm_epsilon": 1e-5, "decay_rank": decay, "iclr_rank": iclr, "value_rank": value, "gate_rank": gate,
              "token_shift_count": 2}
    return config, b.tensors, np.concatenate(b.parts)


def bytes_per_token(tensors: list) -> int:
    return sum(n_bytes for name, _, _, _, n_bytes in tensors if name != "token_embd.weight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["0.1b", "1.5b", "2.9b"], choices=SIZES)
    parser.add_argument("--types", nargs="+", default=["Q4_K_M"], choices=MIXES)
    parser.add_argument("--tuning", nargs="+", default=[""], help="sets of tuning constants (csrc/webgpu/options.h)")
    parser.add_argument("--numerics", default="int8", choices=["int8", "f32"])
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--profile", type=int, default=0, help="timed repeats of every kernel")
    parser.add_argument("--engine", action="store_true", help="also Engine.greedy: what generate() runs on")
    parser.add_argument("--json", help="write all numbers to this file too")
    args = parser.parse_args()
    records = []
    for size in args.sizes:
        for mix in args.types:
            config, tensors, data = build(size, mix)
            benchmark = _core.WebgpuBenchmark("rwkv7", config, tensors, data, args.device, args.numerics)
            for tuning in args.tuning:
                got = benchmark.decode(tuning, args.warm, args.tokens, args.profile)
                rate = got["tokens_per_second"]
                print(f"{size} {mix} {args.numerics} [{tuning}] {rate:.0f} tok/s, {1e6 / rate:.0f} us/token, "
                      f"{bytes_per_token(tensors) * rate / 1e12:.2f} TB/s, submit {got['submit_us']:.0f} us, "
                      f"compile {got['compile_seconds']:.2f} s, load {got['load_seconds']:.2f} s", flush=True)
                for label, (count, total) in sorted(got["ops"].items(), key=lambda item: -item[1][1]):
                    print(f"    {total:8.1f} us  {count:3d} x {total / count:6.2f}  {label}", flush=True)
                records.append({"size": size, "types": mix, "tuning": tuning, **got})
            if args.engine:
                del benchmark
                engine = _core.Engine("rwkv7", config, tensors, data, args.device, 0, args.numerics, None)
                state = engine.new_state()
                stop = np.empty(0, np.int32)
                engine.greedy(1, state, args.tokens, stop)
                start = time.perf_counter()
                engine.greedy(1, state, args.tokens, stop)
                print(f"{size} {mix} {args.numerics} Engine.greedy {args.tokens / (time.perf_counter() - start):.0f} tok/s", flush=True)
                del engine, state
    if args.json:
        with open(args.json, "w") as file:
            json.dump(records, file, indent=1)


if __name__ == "__main__":
    main()
