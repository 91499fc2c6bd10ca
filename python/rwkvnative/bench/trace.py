"""A profile as a Chrome trace, for chrome://tracing, Perfetto or speedscope.

Format: Trace Event Format, complete ("X") events with times in microseconds, and metadata ("M") events that name the rows.
"""

from __future__ import annotations

from typing import Any

from .profile import StepRecord

__all__ = ["chrome_trace"]


def chrome_trace(title: str, steps: list[StepRecord]) -> dict[str, Any]:
    """One process for each step: a row for the device's ops one after the other, one for the layers, one for the host, and one
    for the weights that are uploaded on the way, each as long as the ops wait for it."""
    events: list[dict[str, Any]] = []
    for pid, step in enumerate(steps):
        events.append(_name("process_name", pid, 0, f"{title}: {step.name}"))
        for tid, row in enumerate(("ops", "layers", "host", "uploads")[: 4 if step.uploads else 3]):
            events.append(_name("thread_name", pid, tid, row))
        uploads = {upload.first_op: upload for upload in step.uploads}
        at, layer, layer_begin = 0.0, -1, 0.0
        for index, op in enumerate(step.ops):
            if op.layer != layer:
                events += _layer(pid, layer, layer_begin, at)
                layer, layer_begin = op.layer, at
            if upload := uploads.get(index):
                rate = upload.n_bytes / max(upload.raw_microseconds, 1e-9) / 1e3
                of_upload = {"bytes": upload.n_bytes, "GB/s alone": round(rate, 2), "alone us": round(upload.raw_microseconds, 3)}
                events.append(_event(upload.label, "upload", pid, 3, at, upload.microseconds, of_upload))
                at += upload.microseconds
            arguments = {
                "layer": op.layer, "bytes": op.n_bytes, "GB/s": round(op.bytes_per_second / 1e9, 2), "operations": op.n_operations,
                "% of roofline": round(100 * op.share_of_roofline, 1), "bound by": op.bound, "measured us": round(op.raw_microseconds, 3),
            }  # fmt: skip
            events.append(_event(op.label, op.kind, pid, 0, at, op.microseconds, arguments))
            at += op.microseconds
        events += _layer(pid, layer, layer_begin, at)
        if step.host_microseconds:
            events.append(_event("device idle", "host", pid, 0, at, step.host_microseconds, {}))
        events.append(_event("encode and submit", "host", pid, 2, 0.0, step.submit_microseconds, {}))
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _layer(pid: int, layer: int, begin: float, end: float) -> list[dict[str, Any]]:
    return [_event(f"layer {layer}", "layer", pid, 1, begin, end - begin, {})] if layer >= 0 and end > begin else []


def _event(name: str, category: str, pid: int, tid: int, begin: float, duration: float, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "cat": category, "ph": "X", "pid": pid, "tid": tid, "ts": begin, "dur": duration, "args": arguments}


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}
