"""WebGPU's matrix products of two to sixteen rows (csrc/webgpu/compile_columns.cpp): few sequences, short chunks.

On software GPUs a thread takes a row of the matrix and two of the activations, as their compilers are slow; here it is told to take
as many as on a large GPU, or slices to share a row, or activations to be staged in workgroup memory.
"""

from __future__ import annotations

import numpy as np
import pytest
import webgpu_devices
from engines import assert_states_close, case, open_engine, row_errors
from oracle import Oracle
from synthetic import ALL_TYPES

F32_BOUND = 2e-3  # as in test_webgpu.py
INT8_BOUND = 0.03  # of the same codes summed up in another order: as in test_batch.py

ROLES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key", "channel_mix_value",
         "output.weight")
SLICES = "tile=2,column_slices=2,lanes=4,float_lanes=4"  # two share a row
DIRECT = "tile=4,column_rows=2,column_stage=1"  # a thread takes two rows and reads activations for itself
STAGED = "tile=4,column_rows=2,column_stage=2"
CHUNKS = "tile=8,column_stage=2"  # the longest rows' activations do not fit at once


def batch(engine, parts):
    ends = [engine.new_state() for _ in parts]
    return engine.forward_batch(parts, [None] * len(parts), ends), ends


# The lengths of the sequences: as many rows as programs have, and one more than that.
@pytest.mark.parametrize("numerics, types, tuning, lengths", [
    ("f32", ("F32", "BF16", "Q8_0", "Q4_K", "Q6_K"), SLICES, (1,) * 9),  # floats, a scale for 32 values and for 16
    ("int8", ALL_TYPES[:5], SLICES, (1,) * 16),
    ("int8", ALL_TYPES[5:10], SLICES, (1, 2)),
    ("int8", ALL_TYPES[10:], SLICES, (4, 1, 6, 5)),
    ("int8", ("Q4_K", "Q6_K"), STAGED, (1,) * 3),
    ("int8", ("Q4_K",), DIRECT, (1, 1, 1, 1)),
    ("int8", ("Q4_K",), CHUNKS, (1,) * 8),
], ids=lambda v: v if isinstance(v, str) else f"{len(v)}")
def test_batches_of_mixed_types(monkeypatch, numerics, types, tuning, lengths):
    """Several types in a dispatch, with int8 activations every one: the oracle's numbers; once those of each sequence alone too."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", tuning)
    of_role = {role: types[i % len(types)] for i, role in enumerate(ROLES)}
    n_ff = 2048 if tuning == CHUNKS else 256
    c = case(16, n_embd=256, n_layer=1, n_ff=n_ff, types=of_role, lora_type="F16", seed=41)
    engine, oracle = open_engine(c.model, webgpu_devices.require("llvmpipe"), numerics=numerics), Oracle.from_model(c.model)
    parts = np.split(c.tokens[:sum(lengths)], np.cumsum(lengths)[:-1])
    logits, ends = batch(engine, parts)
    expected = [oracle.forward(p) for p in parts]
    errors = row_errors(logits, np.stack([e[0][-1] for e in expected]))
    if numerics == "f32":
        assert errors.max() <= F32_BOUND
        for end, (_, state) in zip(ends, expected, strict=True):
            assert_states_close(end.read(), state, F32_BOUND)
    else:
        assert np.median(errors) <= 0.02  # of int8 activations, tests/test_parity.py
        if tuning == STAGED:
            alone = [batch(engine, [p])[0] for p in parts]
            assert row_errors(logits, np.concatenate(alone)).max() <= INT8_BOUND
