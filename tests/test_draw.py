"""Tokens drawn on the device against the host's samplers, which define what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import webgpu_devices
from engines import assert_same, open_engine, tokens_of
from rwkvnative import Model, _core
from rwkvnative.errors import InputError
from rwkvnative.sampling import (
    Candidates,
    Greedy,
    LogitBias,
    MinP,
    Mirostat,
    OccurrencePenalty,
    RepeatPenalty,
    Temperature,
    TopK,
    TopP,
    TypicalP,
)
from rwkvnative.sampling.on_device import DeviceChain
from synthetic import build_model, encode

LEAST_U, MOST_U = 0.0, 1 - 2.0**-24
NEAR = 1e-6  # of a bound: there, float32 sums may decide otherwise than float64 ones


@pytest.fixture
def lavapipe(monkeypatch):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    return webgpu_devices.require("llvmpipe")


class Rows:
    """Draws from given logits: those of a model whose head sees zeros, so that its logits are the biases."""

    def __init__(self, device: str, n_vocab: int) -> None:
        model = build_model(n_embd=32, head_size=32, n_layer=1, n_ff=32, n_vocab=n_vocab, seed=3)
        for name in ("output_norm.weight", "output_norm.bias"):
            model.tensors[name] = encode(name, np.zeros_like(model.tensors[name].dequantized()), "F32")
        self.engine = open_engine(model, device)
        self.n_vocab = n_vocab

    def draw(self, rows: np.ndarray, draws: list[_core.Draw | None], us: list[float]) -> list[int]:
        n = len(rows)
        ids = np.arange(self.n_vocab, dtype=np.int32)
        return self.engine.draw_batch([tokens_of([1])] * n, [None] * n, [self.engine.new_state() for _ in range(n)], draws,
                                      np.array(us), [(ids, np.asarray(row, np.float32)) for row in rows]).tolist()


def on_device(samplers, **more: float) -> _core.Draw:
    names = {TopK: ("top_k", "k"), TopP: ("top_p", "p"), MinP: ("min_p", "p"), Temperature: ("temperature", "t")}
    return _core.Draw(**{names[type(s)][0]: getattr(s, names[type(s)][1]) for s in samplers}, **more)


def acceptable(logits: np.ndarray, samplers, u: float) -> set[int]:
    """What the host draws; and where a bound is within NEAR of a sum, what it draws on the bound's other side."""
    choices = set()
    kept = [Candidates.from_logits(np.asarray(logits, np.float32))]
    for sampler in samplers:
        if isinstance(sampler, TopP) and sampler.p < 1:
            kept = [TopP(min(max(sampler.p * (1 + d), 0), 1 - 1e-12)).apply(c) for c in kept for d in (-NEAR, 0, NEAR)]
        elif isinstance(sampler, MinP) and sampler.p > 0:
            kept = [MinP(min(sampler.p * math.exp(d), 1)).apply(c) for c in kept for d in (-NEAR, 0, NEAR)]
        else:
            kept = [sampler.apply(c) for c in kept]
    for candidates in kept:
        for near in (u - NEAR, u, u + NEAR):
            choices.add(int(candidates.ids[candidates.index_at(min(max(near, 0.0), MOST_U), strict=True)]))
        if u + NEAR >= 1:  # any of a tail that weighs so little
            running = np.cumsum(candidates.weights)
            choices |= set(candidates.ids[running >= running[-1] * (1 - 2 * NEAR)].tolist())
    return choices


def host_draw(logits: np.ndarray, samplers, u: float) -> int:
    candidates = Candidates.from_logits(np.asarray(logits, np.float32))
    for sampler in samplers:
        candidates = sampler.apply(candidates)
    return int(candidates.ids[candidates.index_at(u, strict=True)])


def some_logits(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "normal":
        return rng.normal(size=n) * rng.choice([0.3, 1, 3, 10])
    if kind == "peaked":
        return rng.normal(size=n) + np.where(np.arange(n) == rng.integers(n), rng.choice([5, 20, 60]), 0)
    if kind == "equal":
        return np.full(n, rng.choice([0.0, 7.25, -3.0]))
    if kind == "ties":
        return np.round(rng.normal(size=n) * 2)
    if kind == "ordered":
        return np.sort(rng.normal(size=n) * 4)[:: rng.choice([1, -1])]
    assert kind == "banned"
    return np.where(rng.random(n) < 0.7, -np.inf if rng.random() < 0.5 else -1e30, rng.normal(size=n))


KINDS = ("normal", "peaked", "equal", "ties", "ordered", "banned")
CHAINS = (
    [], [TopP(0.9)], [TopP(1e-9)], [TopP(0.5)], [TopP(0.0)], [TopP(0.999999)], [TopK(1)], [TopK(40)], [TopK(3000)], [MinP(0.05)],
    [MinP(1.0)], [TopK(50), TopP(0.7), MinP(0.02), Temperature(0.8)], [Temperature(0.01)], [Temperature(100.0)], [Temperature(1e-20)],
    [TopP(0.95), Temperature(1.7)], [TopK(5), Temperature(30.0)],
)
US = (LEAST_U, 2.0**-24, MOST_U)


@pytest.mark.parametrize("gpu, n_vocab, n_rounds", [("llvmpipe", 37, 6), ("llvmpipe", 5000, 3), ("SwiftShader", 1500, 1)])
def test_rows(monkeypatch, gpu, n_vocab, n_rounds):
    monkeypatch.setenv("RWKVNATIVE_WEBGPU_VALIDATION", "1")
    rows = Rows(webgpu_devices.require(gpu), n_vocab)
    rng = np.random.default_rng(n_vocab)
    n_off = n = 0
    for turn in range(n_rounds):
        logits, draws, us, chains = [], [], [], []
        for i in range(min(12, 65536 // n_vocab)):
            chain = CHAINS[(turn * 12 + i) % len(CHAINS)]
            logits.append(some_logits(KINDS[(turn + i) % len(KINDS)], n_vocab, rng).astype(np.float32))
            us.append(US[i % 3] if turn % 3 == 0 else float(rng.random()))
            chains.append(chain)
            draws.append(on_device(chain, bans=True))
        got = rows.draw(np.maximum(logits, np.float32(-1e30)), draws, us)
        for row, chain, u, token in zip(logits, chains, us, got, strict=True):
            assert token in acceptable(row, chain, u), (chain, u)
            n_off += token != host_draw(row, chain, u)
            n += 1
    assert n_off <= n // 10


def test_a_whole_vocabulary(lavapipe):
    """A nucleus of half of the tokens; many equal logits, for which ids decide; the lowest logits, in an interval with hundreds."""
    rows = Rows(lavapipe, 65536)
    rng = np.random.default_rng(0)
    chain = [TopP(0.95), Temperature(0.9)]
    for logits, u in ((rng.normal(size=65536), 0.9), (np.round(rng.normal(size=65536)), 0.7), (np.zeros(65536), MOST_U)):
        row = logits.astype(np.float32)
        assert rows.draw(row[None], [on_device(chain)], [u])[0] in acceptable(row, chain, u)
    assert rows.draw(np.zeros((1, 65536)), [on_device([TopP(0.5)])], [MOST_U]) == [32767]  # exact: every weight is 1
    low = np.random.default_rng(1).normal(size=65536).astype(np.float32) * 3
    for samplers, u in (([], 0.6), ([TopK(65500)], MOST_U), ([Temperature(1000.0)], 0.9999), ([MinP(1e-9), Temperature(50.0)], 0.997)):
        assert rows.draw(low[None], [on_device(samplers, bans=True)], [u])[0] in acceptable(low, samplers, u), samplers


def test_what_cannot_be_drawn_from(lavapipe):
    """No token, where the host's samplers raise."""
    rows = Rows(lavapipe, 300)
    logits = np.zeros((4, 300))
    logits[1, 7], logits[2] = np.inf, -1e30
    assert rows.draw(logits, [on_device([], bans=True)] * 3 + [None], [0.0] * 4)[:3] == [0, -1, -1]
    not_a_number = (tokens_of([7, 7]), np.array([np.inf, -np.inf], np.float32))
    engine = rows.engine
    got = engine.draw_batch([tokens_of([1])], [None], [engine.new_state()], [on_device([])], np.zeros(1), [not_a_number])
    assert got.tolist() == [-1]


def tokens_with_states(engine, token, draw, us, bias=None):
    """One draw a call, each with a state of its own: the tokens, and the state after all but the last."""
    state, tokens = engine.new_state(), []
    for i, u in enumerate(us):
        draw.set_used(*used(tokens), i + 2)
        new = engine.new_state()
        token = int(engine.draw_batch([tokens_of([token])], [state], [new], [draw], np.array([u]), [bias])[0])
        tokens.append(token)
        state = new
    return tokens, state.read()


def used(tokens: list[int]):
    """As Draw.set_used takes them, of tokens that were generated after a first one."""
    counts = {}
    for place, token in enumerate(tokens, 2):
        counts[token] = (counts.get(token, (0, 0))[0] + 1, place)
    ids = list(counts)
    return (tokens_of(ids), np.array([counts[i][0] for i in ids], np.float32), tokens_of([counts[i][1] for i in ids]),
            np.ones(len(ids), bool))


@pytest.mark.parametrize("penalties", [{}, dict(presence=0.4, frequency=0.6, repeat=1.2, repeat_last_n=4)], ids=["plain", "penalties"])
def test_tokens_in_flight(lavapipe, penalties):
    """Several tickets in flight are the same draws as one after the other, the device keeping count of what it drew; a run that is
    ended early leaves the state as if it had never gone further."""
    engine = open_engine(build_model(n_embd=64, n_layer=2, n_vocab=40, seed=5), lavapipe)
    us = np.random.default_rng(1).random(24)
    bias = (tokens_of([3, 9]), np.array([1.5, -1e30], np.float32))
    draw = _core.Draw(top_p=0.9, temperature=1.5, bans=True, **penalties)
    expected, _ = tokens_with_states(engine, 7, draw, us, bias)
    assert 9 not in expected and len(set(expected)) > 8
    for stop in (3, 24):
        draw.set_used(*used([]), 2)
        state, seen = engine.new_state(), []
        engine.draw(7, state, us, draw, bias, tokens_of([]), lambda token: seen.append(token) or len(seen) < stop)
        assert seen == expected[:stop]
        assert_same(state.read(), tokens_with_states(engine, 7, draw, us[:stop], bias)[1])


OPTIONS = {
    "filters": dict(top_k=500, temperature=1.3, top_p=0.9, min_p=0.02),
    "penalties": dict(presence_penalty=0.5, frequency_penalty=0.3, penalty_decay=0.9, repeat_penalty=1.3, repeat_last_n=7),
    "penalties, greedy": dict(repeat_penalty=1.2, presence_penalty=0.2, temperature=0),
    "bias, stop": dict(logit_bias={5: 3.0, 300: -math.inf}, stop=["and"], top_p=0.95),
}


@pytest.fixture
def on_the_host(monkeypatch):
    """Makes the chains that are built from now on the host's."""
    return lambda: monkeypatch.setattr(DeviceChain, "of", staticmethod(lambda samplers: None))


def test_generate_is_the_hosts(lavapipe, on_the_host):
    with Model(device=lavapipe, numerics="f32") as model:
        with pytest.raises(InputError, match="bans every token"):
            model.generate("Once", max_tokens=3, logit_bias=dict.fromkeys(range(model.n_vocab), -math.inf))
        texts = [model.generate("Once upon a time", max_tokens=15, seed=3, **options) for options in OPTIONS.values()]
        on_the_host()
        for options, got in zip(OPTIONS.values(), texts, strict=True):
            expected = model.generate("Once upon a time", max_tokens=15, seed=3, **options)
            assert (got.tokens, got.text, got.finish_reason) == (expected.tokens, expected.text, expected.finish_reason)


def test_which_chains_the_device_runs():
    def runs(*samplers) -> bool:
        return DeviceChain.of(samplers) is not None

    class Own(TopK):
        pass

    assert runs() and runs(TopK(3)) and runs(RepeatPenalty(1.1), LogitBias({}), OccurrencePenalty(1.0), Greedy())
    assert runs(TopK(3), TopP(0.5), MinP(0.1), Temperature(2.0))
    assert not runs(Own(3)) and not runs(TypicalP(0.9)) and not runs(Mirostat())
    assert not runs(Temperature(2.0), TopP(0.5)), "the order matters"
    assert not runs(TopP(0.5), TopP(0.4))
