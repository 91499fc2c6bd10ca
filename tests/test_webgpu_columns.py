"""WebGPU's matrix products of two to sixteen rows (csrc/webgpu/compile_columns.cpp): few sequences, short chunks.

On software GPUs a thread takes a row of the matrix and two of the activations, as their compilers are slow; here it is told to take
as many as on a large GPU, with few threads of a workgroup so that slices share a row.
"""

from __future__ import annotations

import numpy as np
import pytest
import webgpu_devices
from engines import assert_states_close, case, open_engine, row_errors
from oracle import Oracle
from synthetic import ALL_TYPES, FLOAT_TYPES

F32_BOUND = 2e-3  # as in test_webgpu.py
INT8_BOUND = 0.03  # of the same codes summed up in another order: as in test_batch.py

ROLES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key", "channel_mix_value",
         "output.weight")
# As many rows as programs have, and one more than that; each sequence of another length.
BATCHES = [(1, 1), (1, 2), (1,) * 8, (1,) * 9, (4, 1, 6, 5)]


def batch(engine, parts):
    ends = [engine.new_state() for _ in parts]
    return engine.forward_batch(parts, [None] * len(parts), ends), ends


@pytest.mark.parametrize("numerics", ["f32", "int8"])
@pytest.mark.parametrize("types, tuning", [(ALL_TYPES[:5], "tile=8,column_rows=2"), (ALL_TYPES[5:10], "tile=8,column_rows=4,lanes=4"),
                                           (ALL_TYPES[10:], "tile=4,column_rows=2,lanes=2")], ids=["0", "1", "2"])
def test_mixed_batches(monkeypatch, types, tuning, numerics):
    """Every type, several in a dispatch; the numbers of each sequence alone, and the oracle's."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", tuning)
    of_role = {role: types[i % len(types)] for i, role in enumerate(ROLES)} | {"time_mix_w1": "F32", "time_mix_g2": "Q8_0"}
    c = case(16, n_embd=256, n_layer=1, n_ff=256, types=of_role, lora_type="F16", seed=41)
    engine, oracle = open_engine(c.model, webgpu_devices.require("llvmpipe"), numerics=numerics), Oracle.from_model(c.model)
    for lengths in BATCHES:
        parts = np.split(c.tokens[:sum(lengths)], np.cumsum(lengths)[:-1])
        logits, ends = batch(engine, parts)
        expected = [oracle.forward(p) for p in parts]
        errors = row_errors(logits, np.stack([e[0][-1] for e in expected]))
        if numerics == "f32" or all(t in FLOAT_TYPES for t in types):
            assert errors.max() <= F32_BOUND, lengths
            for end, (_, state) in zip(ends, expected, strict=True):
                assert_states_close(end.read(), state, F32_BOUND)
        else:
            assert np.median(errors) <= 0.02, lengths  # of int8 activations, tests/test_parity.py
            alone = [batch(engine, [p]) for p in parts]
            assert row_errors(logits, np.concatenate([a[0] for a in alone])).max() <= INT8_BOUND, lengths
