"""What a caller of the Python API gets on a GPU: load time and memory, and `Model.generate` against the bare program.

    python benchmarks/webgpu_generate.py [--sizes 2.9b] [--types Q4_K_M Q6_K Q8_0] [--device webgpu] [--tokens 400] [--dir /tmp]
        [--batches 8 64 256]

For each size and type it writes a GGUF file of random valid blocks (webgpu_decode.py) with a vocabulary, reads it once so that it
is in the page cache, and measures, each in a process of its own:

load: seconds of Model(path), and the peak of resident memory above the file's size (the mapping's pages count as resident).
generate: tokens per second of Model.generate, greedy and sampled (SAMPLING), warmed up, and their share of the bare program's rate
(WebgpuBenchmark: tickets in flight, nothing read but token ids), which is measured in the same process before and after each:
where the bare rates differ among each other, it is the host or its other work that is slow, not generate().
batches: the same of Model.generate with so many prompts, all sequences' tokens together, wall clock from the call to the last text,
reading the prompts (of four tokens) included; "staggered": lengths from half of --tokens to --tokens, three times as many prompts as
places, so that finished sequences leave and waiting ones enter all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import webgpu_decode

SAMPLING = {"greedy": {"temperature": 0.0}, "top_p 0.9": {"temperature": 1.0, "top_p": 0.9, "top_k": 0},
            "top_k 40": {"temperature": 1.0, "top_p": 1.0, "top_k": 40},
            "penalties": {"top_p": 0.7, "presence_penalty": 0.4, "frequency_penalty": 0.4, "penalty_decay": 0.996, "repeat_penalty": 1.1},
            "on the host": {"temperature": 1.0, "top_p": 1.0, "top_k": 40, "typical_p": 0.999}}
ROUNDS = 3


def write(path: Path, size: str, mix: str) -> None:
    config, tensors, data = webgpu_decode.build(size, mix)
    writer = gguf.GGUFWriter(path, "rwkv7")
    for key, add, value in (("context_length", writer.add_uint32, config["context_length"]), ("embedding_length", writer.add_uint32, config["n_embd"]),
                            ("block_count", writer.add_uint32, config["n_layer"]), ("feed_forward_length", writer.add_uint32, config["n_ff"]),
                            ("attention.head_count", writer.add_uint32, 0), ("wkv.head_size", writer.add_uint32, config["head_size"]),
                            ("attention.layer_norm_epsilon", writer.add_float32, config["layer_norm_epsilon"]),
                            ("attention.decay_lora_rank", writer.add_uint32, config["decay_rank"]),
                            ("attention.iclr_lora_rank", writer.add_uint32, config["iclr_rank"]),
                            ("attention.value_residual_mix_lora_rank", writer.add_uint32, config["value_rank"]),
                            ("attention.gate_lora_rank", writer.add_uint32, config["gate_rank"]),
                            ("token_shift_count", writer.add_uint32, config["token_shift_count"])):
        add(f"rwkv7.{key}", value)
    # All bytes, then words of three letters: 65536 spellings that differ.
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
    words = (a + b + c for a in letters for b in letters for c in letters)
    spellings = ["<s>", *(f"\\x{i:02x}" for i in range(256)), *(next(words) for _ in range(webgpu_decode.VOCABULARY - 257))]
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(spellings)
    writer.add_token_types([3] + [6] * 256 + [1] * (len(spellings) - 257))
    for name, type_number, ne, offset, n_bytes in tensors:
        raw = data[offset:offset + n_bytes]
        writer.add_tensor(name, raw.reshape(*ne[:0:-1], -1) if len(ne) > 1 else raw, raw_dtype=gguf.GGMLQuantizationType(type_number))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def peak_resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def load(path: Path, device: str) -> dict[str, float]:
    from rwkvnative import Model, _core

    _core.devices()  # Dawn and the driver, which every program pays once
    before = peak_resident()
    start = time.perf_counter()
    with Model(path, device=device):
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "above_mapping": peak_resident() - before - path.stat().st_size}


def generate(path: Path, size: str, mix: str, device: str, n_tokens: int) -> dict[str, list[float]]:
    """Tokens per second by what was measured: "bare", "bare, drawing" and the names of SAMPLING; in turn, several rounds."""
    from rwkvnative import Model, _core

    rates: dict[str, list[float]] = {}
    benchmark = _core.WebgpuBenchmark("rwkv7", *webgpu_decode.build(size, mix), device, "int8")
    with Model(path, device=device) as model:
        model.tokenizer.eos_id = None  # random weights may say it at once, and a short text says little about a rate

        def bare(name: str, draw_top_p: float) -> None:
            result = benchmark.decode("", 0.3, n_tokens, 0, draw_top_p)
            rates.setdefault(name, []).append(result["tokens_per_second"])
            rates.setdefault("encoding, us a token", []).append(result["submit_us"])

        for i in range(ROUNDS):
            for name, options in SAMPLING.items():
                bare("bare", 0.0)
                if i == 0:
                    model.generate("abc def", max_tokens=50, seed=1, **options)  # compiles
                result = model.generate("abc def", max_tokens=n_tokens, seed=2 + i, **options)
                rates.setdefault(name, []).append(result.timings.tokens_per_second)
            bare("bare, drawing", 0.9)
    return rates


def generate_batches(path: Path, device: str, n_tokens: int, batches: list[int], data: tuple) -> None:
    """Prints tokens per second of all sequences together."""
    from rwkvnative import Model, _core

    benchmark = _core.WebgpuBenchmark("rwkv7", *data, device, "int8")
    with Model(path, device=device) as model:
        model.tokenizer.eos_id = None

        def rate(n: int, lengths: list[int], options: dict) -> float:
            prompts = [{"prompt": "abc def", "max_tokens": length} for length in lengths]
            start = time.perf_counter()
            texts = model.generate(prompts, seed=1, batch_size=n, **options)
            return sum(len(text.tokens) for text in texts) / (time.perf_counter() - start)

        for n in batches:
            bare = benchmark.batch("", n, 1, 0, 0.3, 16)["tokens_per_second"]
            print(f"    {n} prompts: bare {bare:.0f} tok/s", flush=True)
            staggered = [n_tokens // 2 + (j * 37) % (n_tokens // 2 + 1) for j in range(3 * n)]
            for name, lengths in (("greedy", [n_tokens] * n), ("top_p 0.9", [n_tokens] * n), ("penalties", [n_tokens] * n),
                                  ("top_p 0.9, staggered", staggered)):
                options = SAMPLING[name.split(",")[0]]
                rate(n, [6 + j % 5 for j in range(3 * n)], options)  # compiles
                benchmark.batch("", n, 1, 0, 0.2, 4)  # clocks
                got = rate(n, lengths, options)
                print(f"        {name:24} {got:7.0f} tok/s, {100 * got / bare:3.0f} % of bare", flush=True)


def in_new_process(what: str, *arguments: object) -> dict[str, float]:
    code = f"import json; from pathlib import *; import webgpu_generate as w; print(json.dumps(w.{what}(*{arguments!r})))"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["2.9b"], choices=webgpu_decode.SIZES)
    parser.add_argument("--types", nargs="+", default=["Q4_K_M", "Q6_K", "Q8_0"], choices=webgpu_decode.MIXES)
    parser.add_argument("--generate", nargs="*", default=["Q4_K_M"], help="the types that also generate")
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="also so many prompts together")
    parser.add_argument("--dir", type=Path, default=Path("/tmp"))
    args = parser.parse_args()
    for size in args.sizes:
        for mix in args.types:
            path = args.dir / f"rwkv7-{size}-{mix}.gguf"
            write(path, size, mix)
            np.fromfile(path, np.uint8)  # into the page cache
            loads = [in_new_process("load", path, args.device) for _ in range(2)]
            print(f"{size} {mix}: {path.stat().st_size / 1e9:.2f} GB loads in {min(l['seconds'] for l in loads):.2f} s, "
                  f"peak {max(l['above_mapping'] for l in loads) / 1e6:.0f} MB above the mapping", flush=True)
            if mix in args.generate:
                rates = in_new_process("generate", path, size, mix, args.device, args.tokens)
                bare = statistics.median(rates["bare"])
                for name, found in rates.items():
                    middle = statistics.median(found)
                    share = "" if name.startswith("encoding") else f"tok/s, {100 * middle / bare:3.0f} % of bare"
                    print(f"    {name:22} {middle:7.0f} {share:24} " + " ".join(f"{r:.0f}" for r in found), flush=True)
            if args.batches:
                generate_batches(path, args.device, args.tokens, args.batches, webgpu_decode.build(size, mix))
            path.unlink()


if __name__ == "__main__":
    main()
