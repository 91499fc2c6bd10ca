"""Decoding speed of a model with one kernel constant changed after the other, and the ops that changed most.

    python benchmarks/experiments/constants.py [--random 2.9b:q4_k_m] [--device webgpu] [--tuning workgroup=64 fuse=0 ...]

A text is what RWKVNATIVE_WEBGPU_TUNING takes (csrc/webgpu/options.h); the default comes first and last. One process and one loaded
model for all of them, so that they can be compared; `rwkvnative tune` does this for every kind of op and keeps the best.
"""

from __future__ import annotations

import argparse
import json

from rwkvnative.bench.subject import random_subject

TUNINGS = ("workgroup=64,quantizing_workgroup=64", "workgroup=128,quantizing_workgroup=128", "workgroup=256,quantizing_workgroup=256",
           "workgroup=512,quantizing_workgroup=512", "subgroups=0", "fuse=0", "int8=0", "rows=2,float_rows=2", "in_flight=1",
           "layout=8", "layout=0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--random", default="2.9b:q4_k_m", metavar="SIZE:TYPE")
    parser.add_argument("--device", default="webgpu")
    parser.add_argument("--tuning", nargs="+", default=TUNINGS)
    parser.add_argument("--rows", nargs="+", type=int, default=[1], help="1: decoding; more: a chunk of a prompt")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm", type=float, default=0.3)
    parser.add_argument("--json", help="write all numbers to this file too")
    args = parser.parse_args()
    subject = random_subject(args.random, args.device, None, "auto")
    print(f"{subject.name} on {subject.engine.info['device_name']}", flush=True)
    records: list[dict[str, object]] = []
    defaults: dict[int, dict[str, float]] = {}
    for text, rows in ((text, rows) for text in ("", *args.tuning, "") for rows in args.rows):
        try:
            subject.engine.set_tuning(text)
            step = subject.engine.profile(rows, 1, args.repeats, args.warm)
        except (ValueError, RuntimeError) as error:
            print(f"{text:45} {error}", flush=True)
            continue
        times: dict[str, float] = {}
        for op in step["ops"]:
            times[op["label"]] = times.get(op["label"], 0.0) + op["microseconds"]
        default = defaults.setdefault(rows, times)
        changed = sorted(((t - default.get(label, 0.0), label) for label, t in times.items()), key=lambda c: -abs(c[0]))[:3]
        rate = rows / step["step_seconds"]
        print(f"{text or '(default)':45} {rows:5} row(s) {rate:8.1f} tok/s {1e6 * step['step_seconds']:9.1f} us, {len(step['ops'])} ops; "
              + ", ".join(f"{label} {d:+.1f} us" for d, label in changed), flush=True)
        records.append({"tuning": text, "rows": rows, "tokens_per_second": rate, "ops": times, "n_ops": len(step["ops"])})
    if args.json:
        with open(args.json, "w") as file:
            json.dump(records, file, indent=1)


if __name__ == "__main__":
    main()
