"""The engine's numbers against the float64 oracle and the official package: types, shapes, numerics."""

from __future__ import annotations

import numpy as np
import pytest
import synthetic
from engines import (
    Case,
    assert_states_close,
    case,
    devices_under_test,
    f32_bound,
    open_engine,
    random_tokens,
    relative_error,
    row_errors,
    run,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle
from rwkvnative import _core
from synthetic import ALL_TYPES, FLOAT_TYPES, build_model, encode

EVERY_CPU_KERNEL_SET = True
QUANTIZED_TYPES = [t for t in ALL_TYPES if t not in FLOAT_TYPES]

# int8 activations have 127 steps for the largest of 32 values: a rounding error of 0.5 % of their deviation in the input
# of every matrix. The oracle with the same rounding shows what that does to a model: its median row is off by 0.5 to 1.2 %.
INT8_BOUND = 0.02
INT8_OVER_EMULATION = 1.1  # the same rounding, met at other values once a code differs: seen 0.97 to 1.02


def check_f32(c: Case, device: str, n_tokens: int | None = None) -> None:
    """All tokens in one call, or n_tokens a call."""
    engine = open_engine(c.model, device)
    logits, state = run_chunks(engine, c.tokens, n_tokens or len(c.tokens))
    assert logits.dtype == np.float32
    assert row_errors(logits, c.logits).max() <= f32_bound(device)
    assert_states_close(state, c.state, f32_bound(device))


def run_chunks(engine, tokens, n_tokens):
    state = engine.new_state()
    rows = [engine.forward(chunk, state, state, "all") for chunk in np.split(tokens, range(n_tokens, len(tokens), n_tokens))]
    return np.concatenate(rows), state.read()


@pytest.mark.parametrize("type_name", ALL_TYPES)
@pytest.mark.parametrize("n_tokens", [1, 5, 70])
def test_every_type(device, type_name, n_tokens):
    """One token a call (decode), a few, and one prefill."""
    check_f32(case(70, n_embd=256, n_layer=2, type=type_name, seed=1), device, n_tokens)


@pytest.mark.parametrize("lora_type", ["F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_1", "IQ4_NL"])
def test_lora_types(device, lora_type):
    check_f32(case(20, n_embd=128, type="Q8_0", lora_type=lora_type, ranks=(64, 32, 32, 96), seed=3), device)


Q4_K_M = dict(n_embd=256, type="Q4_K", head_type="Q6_K", seed=4, ranks=(32, 64, 32, 128),
              types={"time_mix_a[12]": "F16", "time_mix_g[12]": "BF16", "time_mix_v[12]": "Q8_0", "blk.1.*_value.weight": "Q6_K"})


def test_mixed_types_of_q4_k_m(device):
    """Q4_K blocks and embedding, Q6_K head, LoRAs of several types: what llama-quantize writes."""
    c = case(40, **Q4_K_M)
    types = {t.ggml_type.name for t in c.model.tensors.values()}
    assert types == {"F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K"}
    check_f32(c, device)


@pytest.mark.parametrize("embed_type", ALL_TYPES)
def test_every_type_as_embedding(device, embed_type):
    check_f32(case(12, n_embd=256, n_layer=1, embed_type=embed_type, seed=5), device)


@pytest.mark.parametrize("type_name", QUANTIZED_TYPES)
@pytest.mark.parametrize("n_tokens", [1, 100])
def test_int8_numerics(device, type_name, n_tokens):
    c = case(100, n_embd=256, n_layer=2, type=type_name, seed=6)
    logits, _ = run_chunks(open_engine(c.model, device, numerics="int8"), c.tokens, n_tokens)
    error = np.median(row_errors(logits, c.logits))
    assert error <= INT8_BOUND
    assert error <= INT8_OVER_EMULATION * np.median(row_errors(c.emulated, c.logits))


@pytest.mark.parametrize("kernel_set", _core.cpu_kernels())
@pytest.mark.parametrize("options", [*({"type": t} for t in QUANTIZED_TYPES), Q4_K_M, {"lora_type": "Q8_0", "type": "Q4_K"}],
                         ids=lambda o: "-".join(map(str, o.values())) if len(o) < 3 else "q4_k_m")
@pytest.mark.parametrize("n_tokens", [1, 17])
def test_int8_is_the_documented_rounding(kernel_set, options, n_tokens):
    """One scale per 32 activations, everything else float32: the oracle that rounds like that gives the same logits.

    Exactly the same but for float32 rounding (1e-6), until the first activation that lies so near the middle between two
    codes that this rounding decides: from then on they differ as two roundings do. Short sequences, most of which have none.
    """
    options = {"n_embd": 256, "n_layer": 2, "ranks": (32, 64, 32, 128), **options}
    cases = [case(n_tokens, **options, token_seed=seed) for seed in range(9)]
    engine = open_engine(cases[0].model, f"cpu:{kernel_set}", numerics="int8")
    errors = [row_errors(run(engine, c.tokens)[0], c.emulated)[:2].min() for c in cases]
    assert np.median(errors) <= f32_bound("cpu")


@pytest.mark.parametrize("n_tokens", [1, 40])
@pytest.mark.parametrize("scale", [0.0, 1e-18, 1e-22])
def test_int8_numerics_of_vanishing_activations(device, scale, n_tokens):
    """relu(W_key x)^2 of 1e-36 and below: 127 over the largest of 32 values overflows; the values round to nothing."""
    model = build_model(n_embd=256, type="Q8_0", types={"channel_mix_key": "F32"}, seed=3)
    for i in range(model.shape.n_layer):
        name = f"blk.{i}.channel_mix_key.weight"
        model.tensors[name] = encode(name, model.tensors[name].dequantized() * np.float32(scale), "F32")
    tokens = random_tokens(n_tokens)
    logits, _ = run(open_engine(model, device, numerics="int8"), tokens)
    expected, _ = Oracle.from_model(model).forward(tokens)
    assert np.median(row_errors(logits, expected)) <= INT8_BOUND


@pytest.mark.parametrize("n_tokens", [1, 48])
def test_official_package(device, official, n_tokens):
    """The rwkv package's own numbers; it ran in float32 too and is 9e-7 from the oracle (tests/test_oracle.py)."""
    path, numbers = official
    engine = open_engine(synthetic.read_model(path), device)
    logits, state = run_chunks(engine, numbers["tokens"], n_tokens)
    assert row_errors(logits, numbers["logits"]).max() <= f32_bound(device)
    assert_states_close(state, {name: numbers[name] for name in state}, f32_bound(device))


@pytest.mark.parametrize("options", [
    pytest.param(dict(head_size=16, n_embd=48, n_layer=3), id="head16-C48"),
    pytest.param(dict(head_size=32, n_embd=96, n_layer=1), id="head32-C96-one-layer"),
    pytest.param(dict(head_size=64, n_embd=64, n_layer=5), id="one-head-five-layers"),
    pytest.param(dict(head_size=128, n_embd=384, n_layer=2), id="head128-C384"),
    pytest.param(dict(head_size=48, n_embd=144, n_layer=2), id="head48"),
    pytest.param(dict(ranks=(1, 3, 5, 7)), id="tiny-odd-ranks"),
    pytest.param(dict(ranks=(100, 17, 33, 129)), id="odd-ranks"),
    pytest.param(dict(n_ff=40), id="F-below-C"),
    pytest.param(dict(n_ff=1), id="F-one"),
    pytest.param(dict(n_vocab=1), id="V-one"),
    pytest.param(dict(n_vocab=1031, n_embd=32, head_size=16), id="V-prime"),
    pytest.param(dict(n_embd=320, type="Q8_0", n_ff=96), id="Q8_0-C320"),
    pytest.param(dict(n_embd=192, type="Q4_K", fallback=True, n_ff=256), id="Q4_K-fallback-Q5_0"),
    pytest.param(dict(n_embd=160, head_size=32, type="Q5_0", n_ff=416), id="Q5_0-C160"),
    pytest.param(dict(n_embd=288, head_size=32, type="Q4_0", n_ff=32), id="Q4_0-F32"),
    pytest.param(dict(block0_value=False), id="no-value-residual-tensors-in-block-0"),
    pytest.param(dict(lerp_k_ndim=3), id="lerp-k-3d"),
    pytest.param(dict(norm_eps=1e-3), id="large-epsilon"),
])
def test_shapes(device, options):
    check_f32(case(33, **{"seed": 7, **options}), device)


@pytest.mark.parametrize("scale", [1e-6, 1e-14])
def test_short_keys(device, scale):
    """kk = k k_k / max(|k k_k|, 1e-12): of any length above the epsilon it is a unit vector, below it is shorter.

    Adding an epsilon to the sum of squares instead would be seen here, and nowhere else."""
    model = build_model(n_embd=128, seed=9)
    for i in range(model.shape.n_layer):
        name = f"blk.{i}.time_mix_key.weight"
        model.tensors[name] = encode(name, model.tensors[name].dequantized() * np.float32(scale), "F32")
    # The state that kk reads must not be of the keys' size: start from one of order one.
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(values.shape) for name, values in Oracle.from_model(model).zero_state().items()}
    tokens = random_tokens(12)
    expected, expected_state = Oracle.from_model(model).forward(tokens, start)
    logits, state = run(open_engine(model, device), tokens, start)
    assert row_errors(logits, expected).max() <= f32_bound(device)
    assert_states_close(state, expected_state, f32_bound(device))


@settings(max_examples=40)
@given(data=st.data())
def test_random_shapes(data):
    head_size = data.draw(st.sampled_from([16, 32, 48, 64, 80, 128]), "head_size")
    type_name = data.draw(st.sampled_from(["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL"]), "type")
    n_embd = head_size * data.draw(st.integers(1, 5), "n_head")
    n_ff = data.draw(st.integers(1, 9), "n_ff") * 32
    if type_name not in FLOAT_TYPES and n_embd % 32:
        n_embd *= 2
    rank = st.integers(1, 70)
    model = build_model(head_size=head_size, n_embd=n_embd, n_layer=data.draw(st.integers(1, 3), "n_layer"), n_ff=n_ff,
                        n_vocab=data.draw(st.integers(1, 70), "n_vocab"), ranks=data.draw(st.tuples(rank, rank, rank, rank)),
                        type=type_name, seed=data.draw(st.integers(0, 99), "seed"))
    tokens = random_tokens(data.draw(st.integers(1, 40), "n_tokens"), model.shape.n_vocab)
    device = data.draw(st.sampled_from(devices_under_test(True)), "device")
    expected, expected_state = Oracle.from_model(model).forward(tokens)
    logits, state = run(open_engine(model, device), tokens)
    # Ten times the bound elsewhere: among any models, some have a first token whose k . r nearly cancels in a head.
    assert relative_error(logits, expected) <= 10 * f32_bound(device)
    assert_states_close(state, expected_state, 10 * f32_bound(device))


def test_rows_last_none_and_all_agree(device):
    model = build_model(seed=8)
    engine = open_engine(model, device)
    tokens = random_tokens(21)
    everything, state = run(engine, tokens)
    ends = [engine.new_state() for _ in range(2)]
    last = engine.forward(tokens, None, ends[0], "last")
    assert engine.forward(tokens, None, ends[1], "none") is None
    assert last.shape == (300,) and everything.shape == (21, 300)
    # The head takes the same row either way; a matrix product over many rows may sum in another order.
    assert relative_error(last, everything[-1]) <= 1e-5
    for end in ends:
        assert_states_close(end.read(), state, 1e-6)


def test_info(device):
    model = build_model(n_layer=3, n_embd=96, head_size=32)
    info = open_engine(model, device).info
    assert (info["n_layer"], info["n_embd"], info["head_size"], info["n_head"], info["n_vocab"]) == (3, 96, 32, 3, 300)
    if device.startswith("cpu"):
        assert info["device"] == device
    else:  # "webgpu", or a name, stands for one of those that are listed
        assert {d["device"]: d["name"] for d in _core.devices()}[info["device"]] == info["device_name"]
    assert info["weight_bytes"] >= sum(t.data.nbytes for n, t in model.tensors.items() if ".time_mix_v" not in n)


def test_devices_lists_the_cpu():
    assert "cpu" in [d["device"] for d in _core.devices()]
    assert _core.cpu_kernels()[-1] == "reference"
    with pytest.raises(ValueError) as error:
        open_engine(build_model(), "cpu:abacus")
    assert "abacus" in str(error.value) and "reference" in str(error.value)
