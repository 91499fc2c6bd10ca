"""Results of `rwkvnative bench`: what they hold, how they are written and read back, and how two runs compare."""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import _core
from ..errors import FileError, InputError
from .ceilings import least_seconds, measured

__all__ = ["Report", "Result", "compare", "read_report"]

_VERSION = 1


@dataclass
class Result:
    """One test on one model. `seconds`: of each repetition. n_bytes, n_operations: the least that the test moves and computes.
    The quality columns are None where no text was given."""

    model: str
    types: str
    model_bytes: int
    numerics: str
    test: str
    n_tokens: int
    n_bytes: int
    n_operations: int
    seconds: list[float]
    loss: float | None = None
    kl_divergence: float | None = None
    peer: str | None = None
    peer_tokens_per_second: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each repetition."""
        return [self.n_tokens / s for s in self.seconds]

    @property
    def rate(self) -> float:
        """Their median."""
        return statistics.median(self.rates)

    @property
    def bytes_per_second(self) -> float:
        return self.n_bytes / statistics.median(self.seconds)

    def share_of_ceiling(self, ceilings: _core.Ceilings) -> float:
        """The time that the device's ceilings allow for the bytes and operations, over the time it took."""
        return least_seconds(ceilings, self.n_bytes, self.n_operations) / statistics.median(self.seconds)

    @property
    def peer_ratio(self) -> float | None:
        """Our median rate over the peer's."""
        return self.rate / statistics.median(self.peer_tokens_per_second) if self.peer_tokens_per_second else None


@dataclass
class Report:
    """Everything that one run measured on one device."""

    device: dict[str, Any]
    ceilings: _core.Ceilings
    results: list[Result]
    package_version: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """A flat dict for each result, ready for CSV."""
        rows = []
        for r in self.results:
            row = {
                "model": r.model, "types": r.types, "model_bytes": r.model_bytes, "device": self.device["device"],
                "device_name": self.device["device_name"], "numerics": r.numerics, "test": r.test, "tokens_per_second": r.rate,
                "tokens_per_second_min": min(r.rates), "tokens_per_second_max": max(r.rates), "repetitions": len(r.seconds),
                "bytes_per_second": r.bytes_per_second, "share_of_ceiling": r.share_of_ceiling(self.ceilings), "loss": r.loss,
                "kl_divergence": r.kl_divergence, "peer": r.peer,
                "peer_tokens_per_second": statistics.median(r.peer_tokens_per_second) if r.peer_tokens_per_second else None,
                "ratio_to_peer": r.peer_ratio,
            }  # fmt: skip
            rows.append(row)
        return rows

    def json(self) -> str:
        """What `read_report` reads."""
        document = {
            "tool": "rwkvnative bench", "version": _VERSION, "package_version": self.package_version, "device": self.device,
            "ceilings": self.ceilings, "results": [asdict(r) | {"tokens_per_second": r.rate} for r in self.results],
        }  # fmt: skip
        return json.dumps(document, indent=1, ensure_ascii=False)

    def csv(self) -> str:
        rows = self.rows()
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table for a person; columns that nothing fills are left out."""
        columns: dict[str, list[str]] = {
            "model": [r.model for r in self.results],
            "size": [f"{r.model_bytes / 1e9:.2f} GB {r.types}" for r in self.results],
            "device": [str(self.device["device_name"])] * len(self.results),
            "test": [r.test for r in self.results],
            "tok/s": [f"{r.rate:.1f}" for r in self.results],
            "spread": [f"{min(r.rates):.1f}..{max(r.rates):.1f}" for r in self.results],
            "GB/s": [f"{r.bytes_per_second / 1e9:.1f}" for r in self.results],
        }
        if measured(self.ceilings):
            columns["% of ceiling"] = [f"{100 * r.share_of_ceiling(self.ceilings):.1f}" for r in self.results]
        if any(r.loss is not None for r in self.results):
            columns["loss"] = ["" if r.loss is None else f"{r.loss:.4f}" for r in self.results]
            columns["KL to F32"] = ["" if r.kl_divergence is None else f"{r.kl_divergence:.5f}" for r in self.results]
        if any(r.peer for r in self.results):
            peers = [r.peer_tokens_per_second for r in self.results]
            columns["peer tok/s"] = [f"{statistics.median(p):.1f} ({min(p):.1f}..{max(p):.1f})" if p else "" for p in peers]
            columns["ratio"] = ["" if r.peer_ratio is None else f"{r.peer_ratio:.2f}" for r in self.results]
        return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]

    def markdown(self) -> str:
        return markdown(*self.table())


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def read_report(path: str | os.PathLike[str]) -> Report:
    """A report that ``rwkvnative bench --json`` wrote. FileError says what is wrong with any other file."""
    where = f"[bench] {path}"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{where}: {error.strerror or error}") from None
    except ValueError as error:
        raise FileError(f"{where}: not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("tool") != "rwkvnative bench":
        raise FileError(f"{where}: expected what `rwkvnative bench --json` writes")
    if document.get("version") != _VERSION:
        raise FileError(f"{where}: expected version {_VERSION}, got {document.get('version')!r}")
    try:
        names = Result.__dataclass_fields__
        results = [Result(**{key: value for key, value in entry.items() if key in names}) for entry in document["results"]]
        for result in results:
            if not result.seconds or not all(isinstance(s, (int, float)) and s > 0 for s in result.seconds):
                raise ValueError(f"{result.test}: expected positive seconds")
        device = dict(document["device"])
        _ = device["device_name"], device["backend"], device["n_threads"]
        return Report(device, document["ceilings"], results, document.get("package_version", ""))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{where}: damaged: {error!r}") from None


def compare(new: Report, old: Report, old_name: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: each test of both runs, the ratio of the medians, and the lowest and highest ratio of single repetitions.

    InputError if the runs are from different devices, or have no test in common.
    """
    for key, what in (("backend", "backend"), ("device_name", "device"), ("n_threads", "number of threads")):
        if new.device[key] != old.device[key]:
            raise InputError(
                f"[bench] --compare: {old_name} was measured with another {what}: {old.device[key]}, this run with {new.device[key]}"
            )
    before = {(r.model, r.types, r.numerics, r.test): r for r in old.results}
    rows = []
    for r in new.results:
        other = before.get((r.model, r.types, r.numerics, r.test))
        if other is None:
            continue
        low, high = min(r.rates) / max(other.rates), max(r.rates) / min(other.rates)
        verdict = "faster" if low > 1 else "slower" if high < 1 else "within the spread"
        rows.append(
            [r.model, r.test, f"{other.rate:.1f}", f"{r.rate:.1f}", f"{r.rate / other.rate:.3f}", f"{low:.3f}..{high:.3f}", verdict]
        )
    if not rows:
        raise InputError(f"[bench] --compare: {old_name} has none of these models and tests")
    return ["model", "test", "before tok/s", "now tok/s", "ratio", "spread", "verdict"], rows
