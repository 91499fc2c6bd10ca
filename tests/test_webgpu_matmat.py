"""WebGPU's matrix products of many rows (csrc/webgpu/compile_matmat.cpp) in each of their forms, against the float64 oracle.

No software GPU has subgroup matrices. What goes around them (decoding, packing as float16, tiles, tails, what is done with the
sums) runs here with a plain loop in their place, form "plain"; form "matrix", the product by subgroup matrices itself, runs on
every adapter that has them: on a machine with such a GPU, `pytest tests/test_webgpu_matmat.py -k matrix`. Its texts are checked
everywhere, by test_webgpu_null.py.
"""

from __future__ import annotations

import fnmatch

import numpy as np
import pytest
import webgpu_devices
from engines import Case, assert_same, assert_states_close, case, config, open_engine, random_tokens, row_errors
from oracle import Oracle
from rwkvnative import _core
from rwkvnative.errors import InputError
from synthetic import ALL_TYPES, build_model, encode

FORMS = {"matrix": 2, "plain": 3, "float": 4}
# float: as elsewhere on WebGPU, rounding and the device's exp (seen 5e-6). float16 operands round to 2^-11 once each: these
# models' rows are off by 0.05 to 0.2 %, a tenth of what int8 activations do to them.
F32_BOUND = 2e-3
HALF_BOUND = 5e-3


def matrix_device() -> str:
    for device in _core.devices():
        if "subgroup-matrix" in device["features"]:
            return device["device"]
    pytest.skip("no adapter here has subgroup matrices")


@pytest.fixture(params=["llvmpipe-plain", "llvmpipe-float", "any-matrix"])
def matmat(request, monkeypatch) -> str:
    adapter, form = request.param.split("-")
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    use(monkeypatch, form, ",matmat_tile=16" if form == "plain" else "")
    return matrix_device() if form == "matrix" else webgpu_devices.require(adapter)


def device_of(form: str) -> str:
    return matrix_device() if form == "matrix" else webgpu_devices.require("llvmpipe")


def use(monkeypatch, form: str, more: str = "") -> None:
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_TUNING", f"matmat={FORMS[form]},matmat_rows=2{more}")


def is_float(request) -> bool:
    return request.node.callspec.params["matmat"].endswith("float")


def check(engine, c: Case, bound: float, n_tokens: int | None = None) -> None:
    state = engine.new_state()
    parts = np.split(c.tokens, range(n_tokens, len(c.tokens), n_tokens)) if n_tokens else [c.tokens]
    logits = np.concatenate([engine.forward(part, state, state, "all") for part in parts])
    assert row_errors(logits, c.logits).max() <= bound
    assert_states_close(state.read(), c.state, bound)


ROLES = ("time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_output", "channel_mix_key", "channel_mix_value",
         "output.weight", "time_mix_[wa]?")


def types_in_turn(types) -> dict:
    """Options of a model with several types in a dispatch."""
    of_role = {role: types[i % len(types)] for i, role in enumerate(ROLES)} | {f"time_mix_{z}0": "F32" for z in "wa"}
    return dict(n_embd=256, n_layer=1, n_ff=256, ranks=(256, 256, 32, 32), types=of_role, seed=31)


SOME_TYPES = ("Q4_K", "Q6_K", "Q3_K", "F16", "BF16")  # one scale, one for each half, bits in three planes, floats


@pytest.mark.parametrize("form, types", [("plain", SOME_TYPES), ("matrix", ALL_TYPES[:8]), ("matrix", ALL_TYPES[7:])],
                         ids=["plain", "matrix-0", "matrix-1"])
def test_types_in_turn(monkeypatch, form, types):
    """Logits and states, for a chunk of two tiles and a half."""
    use(monkeypatch, form, ",matmat_tile=16")
    c = case(41, **types_in_turn(types))
    check(open_engine(c.model, device_of(form)), c, HALF_BOUND)


@pytest.mark.parametrize("adapter", webgpu_devices.SOFTWARE)
def test_types_in_float32(monkeypatch, adapter):
    """One type of each way of decoding: halves with scales of their own (Q6_K), one scale (Q4_K), floats."""
    use(monkeypatch, "float")
    c = case(9, n_embd=256, n_layer=1, n_ff=512, type="Q4_K", head_type="Q6_K", lora_type="F16", seed=35)
    check(open_engine(c.model, webgpu_devices.require(adapter)), c, F32_BOUND)


ODD = dict(n_embd=48, head_size=16, ranks=(7, 1, 3, 11), n_ff=600, n_vocab=37, n_layer=2, seed=32)


@pytest.fixture
def odd(matmat, request):
    """A model none of whose widths is a multiple of a tile or of a step, one wide enough for splits, and its engine."""
    return lambda n: case(n, **ODD), open_engine(case(1, **ODD).model, matmat), \
        F32_BOUND if is_float(request) else HALF_BOUND


def test_chunk_lengths(odd):
    of_length, engine, bound = odd
    for n in (1, 2, 15, 16, 17, 63, 64, 65, 300):
        check(engine, of_length(n), bound)
    check(engine, of_length(65), bound, n_tokens=13)


def test_a_larger_tile(monkeypatch):
    """The other tests take the smallest."""
    use(monkeypatch, "plain", ",matmat_tile=32")
    c = case(40, n_embd=96, head_size=32, n_layer=1, n_ff=160, ranks=(16, 16, 16, 16), seed=33)
    check(open_engine(c.model, webgpu_devices.require("llvmpipe")), c, HALF_BOUND)


def test_huge_activations(matmat, request):
    """Activations of 3e4, whose relu^2 is 1e9 and more: float16 ends at 65504, so each row is packed by its own power of two."""
    model = build_model(n_embd=64, n_layer=2, n_ff=128, seed=34)
    for i in range(2):
        for part in ("weight", "bias"):
            for norm in ("attn_norm", "attn_norm_2"):
                name = f"blk.{i}.{norm}.{part}"
                model.tensors[name] = encode(name, model.tensors[name].dequantized() * np.float32(3e4), "F32")
    c = Case(model, random_tokens(33))
    engine = open_engine(model, matmat)
    logits = engine.forward(c.tokens, None, engine.new_state(), "all")
    assert np.isfinite(logits).all()
    assert np.median(row_errors(logits, c.logits)) <= (F32_BOUND if is_float(request) else HALF_BOUND)


@pytest.mark.parametrize("form", ["plain", "matrix"])
def test_huge_and_tiny_weights(monkeypatch, form):
    """Weights of 5e4 and more, and below 1e-6: a float16 ends at 65504 and loses digits below 6e-5, so each matrix has its own power
    of two (csrc/core/magnitude.h). The logits remain numbers: norms follow the large ones, and errors are relative."""
    use(monkeypatch, form, ",matmat_tile=16" if form == "plain" else "")
    types = {"time_mix_output": "Q4_K", "channel_mix_value": "Q6_K", "time_mix_receptance": "F32", "time_mix_value": "Q8_0", "output.weight": "F32"}
    model = build_model(n_embd=256, n_layer=1, n_ff=256, ranks=(16, 16, 16, 16), types=types, seed=36)
    factors = {"blk.0.time_mix_output.weight": 1e6, "blk.0.channel_mix_value.weight": 1e6, "blk.0.time_mix_value.weight": 1e6,
               "blk.0.time_mix_receptance.weight": 1e-7, "output.weight": 1e-7}
    for name, factor in factors.items():
        old = model.tensors[name]
        model.tensors[name] = encode(name, old.dequantized() * np.float32(factor), old.ggml_type.name, np.random.default_rng(7))
        largest = np.abs(model.tensors[name].dequantized()).max()
        assert largest > 1e5 / 2 if factor > 1 else largest < 1e-6
    c = Case(model, random_tokens(17))
    engine = open_engine(model, device_of(form))
    logits = engine.forward(c.tokens, None, engine.new_state(), "all")
    assert row_errors(logits, c.logits).max() <= HALF_BOUND


@pytest.mark.parametrize("form", ["plain", "matrix"])
@pytest.mark.parametrize("size", [100, 1e-24])
def test_sums_as_large_as_their_bound(monkeypatch, form, size):
    """What becomes float16 as it is summed up is scaled by a bound of it (reduce.wgsl): lengths of rows of activations times lengths
    of rows of weights. Here the norms' outputs are one vector whatever the token, and rows of the LoRAs' first matrices and of the
    key are parallel to it, so the sums are as large as the bound. Of tiny vectors the squares are no float32."""
    use(monkeypatch, form, ",matmat_tile=16")
    model = build_model(n_embd=64, n_layer=2, n_ff=160, seed=37)
    rng = np.random.default_rng(3)
    along = rng.standard_normal(64)
    for i in range(2):
        for norm in ("attn_norm", "attn_norm_2"):
            for part, value in (("weight", np.zeros(64)), ("bias", size * along)):
                model.tensors[name] = encode(name := f"blk.{i}.{norm}.{part}", value.astype(np.float32), "F32")
        for matrix in ("time_mix_a1", "time_mix_v1", "channel_mix_key"):
            old = model.tensors[name := f"blk.{i}.{matrix}.weight"].dequantized()
            model.tensors[name] = encode(name, 0.02 * rng.uniform(0.1, 1, (*old.shape[:-1], 1)).astype(np.float32) * along.astype(np.float32), "F32")
    c = Case(model, random_tokens(17))
    engine = open_engine(model, device_of(form))
    logits = engine.forward(c.tokens, None, engine.new_state(), "all")
    assert row_errors(logits, c.logits).max() <= HALF_BOUND


LARGE_TERMS = {"none": {}, "bonus": {"blk.*.time_mix_receptance.weight": 1e3, "blk.*.time_mix_key.weight": 1e3, "blk.*.time_mix_value.weight": 1e3},
               "v_first": {"blk.0.time_mix_value.weight": 1e8}, "normed": {"blk.*.time_mix_ln.weight": 1e8},
               "bias": {"blk.*.time_mix_ln.bias": 1e8}, "r_k": {"blk.*.time_mix_r_k.weight": 1e8}, "gate": {"blk.*.time_mix_g2.weight": 1e8}}


@pytest.mark.parametrize("form", ["plain", "matrix"])
@pytest.mark.parametrize("large", LARGE_TERMS)
def test_time_mix_of_large_terms(monkeypatch, form, large):
    """A crowd's time mix writes float16 rows whose factor bounds each term of its formula (wkv7_halves.wgsl): far larger terms, one
    after the other, stay numbers and as exact as others (a row of "normed" is off by 0.8 %, with the largest value itself too)."""
    use(monkeypatch, form, ",matmat_tile=16,wkv_halves=1")
    model = build_model(n_embd=64, head_size=16, n_layer=2, n_ff=64, seed=38)
    for pattern, factor in LARGE_TERMS[large].items():
        names = fnmatch.filter(model.tensors, pattern)
        assert names
        for name in names:
            model.tensors[name] = encode(name, model.tensors[name].dequantized() * np.float32(factor), "F32")
    engine = open_engine(model, device_of(form))
    tokens = [random_tokens(2, seed=i) for i in range(17)]
    states = [engine.new_state() for _ in tokens]
    for step in range(2):
        logits = engine.forward_batch([t[step:step + 1] for t in tokens], states, states)
    oracle = Oracle.from_model(model)
    expected = np.stack([oracle.forward(t)[0][-1] for t in tokens])
    assert row_errors(logits, expected).max() <= 2 * HALF_BOUND


WAYS = (",matmat_weights=1", ",matmat_weights=2")  # packed weights, kept tiles


@pytest.mark.parametrize("form, options, more", [
    ("plain", ODD, ",matmat_outs=64"),
    ("plain", types_in_turn(SOME_TYPES), ""),
    ("matrix", ODD, ",matmat_outs=64,matmat_along=1,matmat_loads=1"),
    ("matrix", types_in_turn(ALL_TYPES[:8]), ""),
    ("matrix", types_in_turn(ALL_TYPES[7:]), ",matmat_outs=64,matmat_loads=4"),
], ids=["plain-odd", "plain-types", "matrix-odd", "matrix-0", "matrix-1"])
def test_weights_as_tiles(monkeypatch, form, options, more):
    """Wherever a product loads its weights from, the same halves are summed in the same order: logits and states are equal to the
    bit. Several tiles of rows and tails; splits; widths that are no multiple of a step of inputs or of a tile of outputs."""
    lengths = [33, 17, 16, 2] if options is ODD else [41]
    c = case(sum(lengths), **options)
    results = []
    for way in WAYS:
        use(monkeypatch, form, ",matmat_tile=16" + way + more)
        engine = open_engine(c.model, device_of(form))
        state = engine.new_state()
        parts = np.split(c.tokens, np.cumsum(lengths)[:-1])
        logits = np.concatenate([engine.forward(part, state, state, "all") for part in parts])
        results.append((logits, state.read(), engine.info["device_bytes"]))
    packed, kept = results
    assert row_errors(packed[0], c.logits).max() <= HALF_BOUND
    np.testing.assert_array_equal(kept[0], packed[0])
    assert_same(kept[1], packed[1])
    key = 2 * c.model.shape.n_embd * c.model.shape.n_ff  # bytes of its tiles, without what is beyond it
    assert kept[2] > packed[2] + 2 * key


@pytest.mark.parametrize("sequences", [20, 65])
def test_a_batch_chooses_tiles(monkeypatch, sequences):
    """For a token of each of many sequences, not for a prompt; packed weights in tiles of as many rows give the same logits."""
    c = case(17, **ODD | dict(n_layer=1))
    tokens = [random_tokens(1, 37, seed) for seed in range(sequences)]
    batches, sizes = [], []
    for way in ("", ",matmat_weights=1"):
        use(monkeypatch, "plain", ",matmat_tile=16" + way)
        engine = open_engine(c.model, device_of("plain"))
        engine.forward(c.tokens, None, engine.new_state(), "last")
        sizes.append(engine.info["device_bytes"])
        states = [engine.new_state() for _ in tokens]
        batches.append(engine.forward_batch(tokens, [None] * sequences, states))
        sizes.append(engine.info["device_bytes"])
    np.testing.assert_array_equal(*batches)
    chosen, batch_chosen, packed, batch_packed = sizes
    assert batch_chosen > chosen == packed == batch_packed


@pytest.mark.parametrize("more", ["", ",wkv_halves=1,mix_ahead=0"])
@pytest.mark.parametrize("form", ["plain", "matrix"])
def test_a_crowd_adds_up_sums_where_they_are_read(monkeypatch, form, more):
    """Steps of many sequences, whose kernels add up the splits of the products before them, beside one sequence at a time, where
    reduce.wgsl does: the same halves, sums in another order. First with a token or two each, in a program of as many rows as
    sequences, where a row's neighbours read it too; then one each, states in place. Products with splits (of 600 inputs) and without."""
    use(monkeypatch, form, ",matmat_tile=16,short_rows=64" + more)
    engine = open_engine(case(1, **ODD).model, device_of(form))
    tokens = [random_tokens(2 + (i < 31), 37, seed=i) for i in range(33)]
    crowd = [engine.new_state() for _ in tokens]
    alone = [engine.new_state() for _ in tokens]
    assert sum(len(t) - 1 for t in tokens) == 64  # rows, and sequences of a program for 33
    for part in (slice(None, -1), slice(-1, None)):
        logits = engine.forward_batch([t[part] for t in tokens], crowd, crowd)
        expected = [engine.forward(t[part], state, state, "last") for t, state in zip(tokens, alone, strict=True)]
        assert row_errors(logits, np.stack(expected)).max() <= HALF_BOUND
        for got, state in zip(crowd, alone, strict=True):
            assert_states_close(got.read(), state.read(), HALF_BOUND)


@pytest.mark.parametrize("types", [ALL_TYPES[:8], ALL_TYPES[7:]], ids=["0", "1"])
def test_every_type_as_tiles(monkeypatch, types):
    use(monkeypatch, "plain", ",matmat_tile=16,matmat_weights=2")
    c = case(9, **types_in_turn(types))
    check(open_engine(c.model, device_of("plain")), c, HALF_BOUND)


def test_tiles_of_split_matrices(monkeypatch):
    """Bindings that hold a part of the head each."""
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_MAX_BINDING", "300000")
    c = case(19, **ODD | dict(n_layer=1, n_ff=300, n_vocab=3000))
    use(monkeypatch, "plain", ",matmat_tile=16,matmat_weights=2")
    engine = open_engine(c.model, device_of("plain"))
    check(engine, c, HALF_BOUND)
    assert engine.info["device_bytes"] > sum(t.data.nbytes for t in c.model.tensors.values()) + 2 * 48 * 3000


def test_a_budget_has_no_room_for_tiles(monkeypatch):
    c = case(9, **ODD)
    entries, data = c.model.packed()
    seen = []
    for way in WAYS:
        use(monkeypatch, "plain", ",matmat_tile=16" + way)
        engine = _core.Engine("rwkv7", config(c.model), entries, data, device_of("plain"), 2, "f32", None, max_device_memory=1 << 28)
        seen.append((engine.forward(c.tokens, None, engine.new_state(), "all").tobytes(), engine.info["device_bytes"], engine.info["scratch_bytes"]))
    assert len(set(seen)) == 1


def test_forms_that_a_device_lacks_are_named(monkeypatch):
    use(monkeypatch, "plain")
    with pytest.raises(InputError, match="matmat=3.*shader-f16"):
        open_engine(case(1, n_embd=48, head_size=16, n_layer=1).model, webgpu_devices.require("SwiftShader"))
    use(monkeypatch, "float", ",matmat_tile=48")
    with pytest.raises(InputError, match="matmat_tile"):
        open_engine(case(1, n_embd=48, head_size=16, n_layer=1).model, webgpu_devices.require("llvmpipe"))
