"""Where the time of a step goes: every op beside the device's ceilings, the host's part, and what bounds each of them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .. import _core
from ..errors import InputError
from .ceilings import arithmetic_rate
from .subject import Subject

__all__ = ["HostPart", "OpRecord", "StepRecord", "UploadRecord", "analyse", "bound", "check_experiment", "experiment", "measure_host", "profile_step"]

MEMORY, ARITHMETIC, LATENCY, UPLOAD, HOST, UNKNOWN = "memory", "arithmetic", "launch latency", "upload", "host", "unknown"
# Ops that multiply matrices, by the first word of their label.
_MATRIX_KINDS = ("linear", "heads_linear", "head", "mix_linear", "lora", "wkv7_rows")
_EXPERIMENTS = {"plain_microseconds": "experiment=1", "constant_microseconds": "experiment=2"}
_NO_TOKENS = np.zeros(0, np.int32)
_NO_VALUES = np.zeros(0, np.float32)


@dataclass
class OpRecord:
    """One dispatch (on a CPU: one step between barriers).

    microseconds: its share of the step's wall clock; raw_microseconds: as measured around it, clock overhead included. n_bytes: that
    must move; least_microseconds: what the device's ceilings allow for them and the operations. plain_microseconds: the same op
    without decoding its weights; constant_microseconds: without loading them (both from `experiment`, of matrix ops).
    """

    label: str
    layer: int
    microseconds: float
    raw_microseconds: float
    n_bytes: int
    n_operations: int
    arithmetic: str
    memory_microseconds: float
    arithmetic_microseconds: float
    bound: str
    plain_microseconds: float | None = None
    constant_microseconds: float | None = None

    @property
    def kind(self) -> str:
        return self.label.split(" ", 1)[0]

    @property
    def multiplies(self) -> bool:
        """Whether matrices are a part of it."""
        return _multiplies(self.label)

    @property
    def least_microseconds(self) -> float:
        return max(self.memory_microseconds, self.arithmetic_microseconds)

    @property
    def bytes_per_second(self) -> float:
        return self.n_bytes / (self.microseconds * 1e-6) if self.microseconds else 0.0

    @property
    def share_of_roofline(self) -> float:
        """1 where the op takes no longer than memory and arithmetic need."""
        return self.least_microseconds / self.microseconds if self.microseconds else 0.0


@dataclass(frozen=True)
class UploadRecord:
    """Weights that a step brings to the device before its op number first_op. raw_microseconds: timed alone, waited for;
    microseconds: what of it the step waits for, which is less where kernels run beside it."""

    label: str
    first_op: int
    n_bytes: int
    raw_microseconds: float
    microseconds: float


@dataclass(frozen=True)
class HostPart:
    """Seconds of a decoded token that are the host's, and what each costs in tokens per second.

    encode: making a submit; hidden where tickets are in flight. alone: a token submitted and waited for, as sampling needs it.
    fetch: a token whose candidates are read back. pick: the samplers' choice among them.
    """

    encode_seconds: float
    step_seconds: float
    alone_seconds: float
    fetch_seconds: float
    pick_seconds: float

    def lost(self) -> list[tuple[str, float, float]]:
        """(what, seconds, tokens per second lost to it), each against the rate before it, from greedy decoding to sampling."""
        stages = [
            ("waiting for each token before the next", self.step_seconds, self.alone_seconds),
            ("candidates: reduction and read-back", self.alone_seconds, self.fetch_seconds),
            ("samplers' choice", self.fetch_seconds, self.fetch_seconds + self.pick_seconds),
        ]
        return [(what, after - before, max(0.0, 1 / before - 1 / after)) for what, before, after in stages]


@dataclass
class StepRecord:
    """A profiled step. host_microseconds: of its wall clock, the part in which the device had nothing to do, not even weights
    to fetch. overhead_microseconds: what the clocks added to each op, taken off again."""

    rows: int
    sequences: int
    timestamps: bool
    step_microseconds: float
    submit_microseconds: float
    alone_microseconds: float
    overhead_microseconds: float
    host_microseconds: float
    bound: str
    ops: list[OpRecord] = field(default_factory=list)
    uploads: list[UploadRecord] = field(default_factory=list)

    @property
    def name(self) -> str:
        if self.rows == 1:
            return "one token"
        if self.rows == self.sequences:
            return f"one token of {self.rows} sequences"
        return f"a prefill chunk of {self.rows} tokens"

    @property
    def n_bytes(self) -> int:
        return sum(op.n_bytes for op in self.ops)

    @property
    def upload_microseconds(self) -> float:
        """What the step waits for weights."""
        return sum(upload.microseconds for upload in self.uploads)

    @property
    def least_microseconds(self) -> float:
        return sum(op.least_microseconds for op in self.ops)

    def shares(self) -> dict[str, float]:
        """Microseconds of the step by what bounds them: the ops', weights on their way, and the host's part."""
        totals = dict.fromkeys((MEMORY, ARITHMETIC, LATENCY, UPLOAD, HOST, UNKNOWN), 0.0)
        for op in self.ops:
            totals[op.bound] += op.microseconds
        totals[UPLOAD] += self.upload_microseconds
        totals[HOST] += self.host_microseconds
        return {name: time for name, time in totals.items() if time or name not in (UPLOAD, UNKNOWN)}

    def kinds(self) -> list[tuple[str, list[OpRecord]]]:
        """Ops of the same label, the most time first. Layer 0's own labels stay apart."""
        groups: dict[str, list[OpRecord]] = defaultdict(list)
        for op in self.ops:
            groups[op.label].append(op)
        return sorted(groups.items(), key=lambda item: -sum(op.microseconds for op in item[1]))

    def as_dict(self) -> dict[str, Any]:
        extra = {"name": self.name, "bytes": self.n_bytes, "least_microseconds": self.least_microseconds, "shares": self.shares()}
        ops = [asdict(op) | {"least_microseconds": op.least_microseconds, "share_of_roofline": op.share_of_roofline} for op in self.ops]
        return asdict(self) | extra | {"ops": ops}


def _multiplies(label: str) -> bool:
    return label.split(" ", 1)[0] in _MATRIX_KINDS


def bound(memory: float, arithmetic: float, latency: float) -> str:
    """What bounds an op: the largest of the times that its bytes, its operations and a dependent dispatch need at best; all 0:
    nothing is known."""
    if memory == arithmetic == latency == 0:
        return UNKNOWN
    if latency >= memory and latency >= arithmetic:
        return LATENCY
    return MEMORY if memory >= arithmetic else ARITHMETIC


def analyse(step: _core.StepProfile, ceilings: _core.Ceilings) -> StepRecord:
    """Put a measured step beside the ceilings.

    Clocks around an op add to it: on a GPU they also keep neighbours from overlapping. If the ops' times add up to more than the
    unprofiled step took, the difference is taken off each alike (none falls below a tenth of what was measured, and the rest is
    scaled, so that the sum is the step's wall clock). If they add up to less, the difference is that of the uploads, as far as
    they took so long when timed alone, and beyond that the host's.
    """
    raw = [op["microseconds"] for op in step["ops"]]
    wall = step["step_seconds"] * 1e6
    overhead = max(0.0, sum(raw) - wall) / max(1, len(raw))
    own = [max(0.1 * t, t - overhead) for t in raw]
    if overhead and sum(own) > 0:
        own = [t * wall / sum(own) for t in own]
    idle = max(0.0, wall - sum(own))
    alone = sum(upload["microseconds"] for upload in step["uploads"])
    waited = min(1.0, idle / alone) if alone else 0.0
    uploads = [
        UploadRecord(u["label"], u["first_op"], u["bytes"], u["microseconds"], u["microseconds"] * waited) for u in step["uploads"]
    ]
    host = max(0.0, idle - alone)
    ops = []
    memory_rate = ceilings["read_bytes_per_second"]
    for op, t, measured in zip(step["ops"], own, raw, strict=True):
        rate = arithmetic_rate(ceilings, op["arithmetic"])
        if step["rows"] > 1 and _multiplies(op["label"]):  # many rows may use matrix units instead
            rate = max(rate, ceilings["matrix_per_second"])
        memory = op["bytes"] / memory_rate * 1e6 if memory_rate else 0.0
        arithmetic = op["operations"] / rate * 1e6 if rate else 0.0
        ops.append(
            OpRecord(
                op["label"], op["layer"], t, measured, op["bytes"], op["operations"], op["arithmetic"], memory, arithmetic,
                bound(memory, arithmetic, ceilings["dispatch_seconds"] * 1e6),
            )
        )  # fmt: skip
    record = StepRecord(
        step["rows"], step["sequences"], step["timestamps"], wall, step["submit_seconds"] * 1e6, step["alone_seconds"] * 1e6,
        overhead, host, "", ops, uploads,
    )  # fmt: skip
    shares = record.shares()
    record.bound = max(shares, key=lambda name: shares[name])
    return record


def profile_step(
    subject: Subject, ceilings: _core.Ceilings, rows: int, sequences: int, repeats: int, warm_seconds: float
) -> StepRecord:
    """Profile a step of `rows` tokens: rows == sequences decodes, else it is a chunk of a prompt."""
    return analyse(subject.engine.profile(rows, sequences, repeats, warm_seconds), ceilings)


def check_experiment(subject: Subject) -> None:
    """InputError where `experiment` cannot be done."""
    if not subject.engine.tuning_variants():
        backend = subject.engine.info["backend"]
        raise InputError(f"[profile] --experiment: the {backend} backend has no kernels without decoding or loads; use a GPU")


def experiment(subject: Subject, record: StepRecord, repeats: int, warm_seconds: float) -> None:
    """Time the matrix ops again without decoding their weights, and without loading them; the results go into `record`.

    The step's own clock overhead is taken off. InputError on a backend that has no such kernels.
    """
    check_experiment(subject)
    try:
        for name, text in _EXPERIMENTS.items():
            subject.engine.set_tuning(f"{text};{subject.tuning}")
            step = subject.engine.profile(record.rows, record.sequences, repeats, warm_seconds)
            if [op["label"] for op in step["ops"]] != [op.label for op in record.ops]:
                raise AssertionError("the experiment runs other ops than the profile")
            for op, changed in zip(record.ops, step["ops"], strict=True):
                if op.multiplies:
                    share = op.microseconds / op.raw_microseconds if op.raw_microseconds else 0.0
                    own = max(0.1 * changed["microseconds"], changed["microseconds"] - record.overhead_microseconds)
                    setattr(op, name, own if record.overhead_microseconds else changed["microseconds"] * share)
    finally:
        subject.engine.set_tuning(subject.tuning)


def measure_host(subject: Subject, record: StepRecord, n: int = 32) -> HostPart:
    """Time the host's part of decoding with samplers, on n tokens after as many for warming up."""
    from ..sampling import SamplingParams
    from ..sampling.candidates import Candidates
    from ..sampling.chain import SamplerChain

    engine = subject.engine
    state, n_vocab = engine.new_state(), engine.info["n_vocab"]
    chain = SamplerChain(SamplingParams(temperature=0.8, top_k=40).samplers(), 0)
    chain.start([1], n_vocab)
    token, fetched = 1, 0.0

    def fetch(k: int, bias: object) -> Candidates:
        nonlocal fetched
        begin = time.perf_counter()
        got = engine.candidates(np.array([token], np.int32), state, state, k, _NO_TOKENS, _NO_VALUES)
        fetched += time.perf_counter() - begin
        return Candidates.from_top(*got, n_vocab)

    fetches, totals = [], []
    for _ in range(2 * n):
        fetched = 0.0
        begin = time.perf_counter()
        token = chain.next_token(fetch, n_vocab)
        totals.append(time.perf_counter() - begin)
        fetches.append(fetched)
    fetch_seconds = float(np.median(fetches[n:]))
    pick_seconds = float(np.median(np.subtract(totals[n:], fetches[n:])))
    return HostPart(
        record.submit_microseconds * 1e-6, record.step_microseconds * 1e-6, record.alone_microseconds * 1e-6, fetch_seconds, pick_seconds
    )
