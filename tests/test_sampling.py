"""Each sampler against its definition, written out naively over the whole vocabulary in float64; and short candidate lists
against the whole vocabulary: whatever is read from the device, the token must be the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rwkvnative.errors import InputError, RwkvError
from rwkvnative.sampling import (
    Candidates,
    Greedy,
    LogitBias,
    MinP,
    Mirostat,
    NeedMoreCandidates,
    OccurrencePenalty,
    RepeatPenalty,
    Sampler,
    SamplerChain,
    SamplingParams,
    Temperature,
    TopK,
    TopP,
    TypicalP,
)
from rwkvnative.sampling.candidates import BANNED_LOGIT
from rwkvnative.sampling.chain import DEVICE_K, HOST_K

# ---- the device, and the naive definitions ----


def random_logits(seed: int, n: int, scale: float) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(n) * scale).astype(np.float32)


def device_top(logits: np.ndarray, k: int) -> Candidates:
    """What Engine.candidates promises: the best k, ties by rising id, and a float32 logsumexp over everything."""
    order = np.argsort(-logits, kind="stable")[:k].astype(np.int32)
    wide = logits.astype(np.float64)
    total = np.float32(wide.max() + np.log(np.exp(wide - wide.max()).sum()))
    return Candidates.from_top(order, logits[order], float(total), len(logits))


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    return weights / weights.sum()


def by_rank(p: np.ndarray) -> list[int]:
    """Ids by falling probability, ties by rising id."""
    return np.lexsort((np.arange(len(p)), -p)).tolist()


def keep(p: np.ndarray, ids: list[int]) -> np.ndarray:
    kept = np.zeros_like(p)
    kept[ids] = p[ids]
    return kept / kept.sum()


def naive_top_k(p: np.ndarray, k: int) -> np.ndarray:
    return keep(p, by_rank(p)[:k])


def naive_top_p(p: np.ndarray, limit: float) -> np.ndarray:
    ids, total = [], 0.0
    for i in by_rank(p):
        ids.append(i)
        total += p[i]
        if total >= limit:
            break
    return keep(p, ids)


def naive_min_p(p: np.ndarray, limit: float) -> np.ndarray:
    return keep(p, np.flatnonzero(p >= limit * p.max()).tolist())


def naive_typical_p(p: np.ndarray, limit: float) -> np.ndarray:
    live = [i for i in by_rank(p) if p[i] > 0]
    entropy = -sum(p[i] * math.log(p[i]) for i in live)
    ids, total = [], 0.0
    for i in sorted(live, key=lambda i: abs(-math.log(p[i]) - entropy)):
        ids.append(i)
        total += p[i]
        if total >= limit:
            break
    return keep(p, ids)


def naive_temperature(p: np.ndarray, t: float) -> np.ndarray:
    powered = np.zeros_like(p)
    live = p > 0
    logs = np.log(p[live]) / t
    powered[live] = np.exp(logs - logs.max())
    return powered / powered.sum()


def distribution(c: Candidates, n: int) -> np.ndarray:
    """Probabilities over the vocabulary of complete candidates."""
    assert c.complete
    assert np.all(np.diff(c.logits) <= 0), "candidates must stay sorted"
    p = np.zeros(n)
    p[c.ids] = c.weights / c.weights.sum()
    return p


FILTERS = {
    "top_k": (TopK, naive_top_k, st.integers(1, 60)),
    "top_p": (TopP, naive_top_p, st.floats(0.01, 0.99)),
    "min_p": (MinP, naive_min_p, st.floats(1e-6, 1.0)),
    "typical_p": (TypicalP, naive_typical_p, st.floats(0.01, 0.99)),
    "temperature": (Temperature, naive_temperature, st.floats(0.05, 5.0)),
}
logits_of = st.builds(random_logits, st.integers(0, 10**6), st.integers(1, 300), st.floats(0.1, 8.0))


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=150)
@given(data=st.data(), logits=logits_of)
def test_filter_is_its_definition(name: str, data: st.DataObject, logits: np.ndarray) -> None:
    kind, naive, values = FILTERS[name]
    value = data.draw(values)
    got = distribution(kind(value).apply(Candidates.from_logits(logits)), len(logits))
    np.testing.assert_allclose(got, naive(softmax(logits), value), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", FILTERS)
@settings(max_examples=150)
@given(data=st.data(), logits=logits_of, k=st.integers(1, 300))
def test_filter_on_a_short_list_is_exact_or_says_so(name: str, data: st.DataObject, logits: np.ndarray, k: int) -> None:
    kind, _, values = FILTERS[name]
    value = data.draw(values)
    whole = kind(value).apply(Candidates.from_logits(logits))
    try:
        short = kind(value).apply(device_top(logits, k))
    except NeedMoreCandidates:
        assert k < len(logits), "the whole vocabulary always suffices"
        return
    if short.complete:
        assert short.ids.tolist() == whole.ids.tolist()
        np.testing.assert_allclose(short.logits, whole.logits, rtol=1e-12)
    else:  # only temperature leaves a tail
        assert name == "temperature"
        tail = float(whole.weights[len(short):].sum())
        assert short.tail_low <= tail * (1 + 1e-9) and tail <= short.tail_high * (1 + 1e-9) + 1e-300
        assert np.all(whole.logits[len(short):] <= short.ceiling + 1e-9)


def test_short_lists_usually_suffice() -> None:
    """Or the test above would pass with samplers that always ask for more."""
    logits = random_logits(1, 5000, 4.0)
    top = device_top(logits, 128)
    for sampler in (TopK(50), TopP(0.3), MinP(0.1), Temperature(0.5)):
        assert len(sampler.apply(top)) <= 128
    for sampler in (TopK(129), TopP(0.9999), MinP(1e-6), TypicalP(0.5)):
        with pytest.raises(NeedMoreCandidates):
            sampler.apply(top)


@settings(max_examples=100)
@given(logits=logits_of, k=st.integers(1, 300), decimals=st.integers(0, 3))
def test_list_from_all_logits(logits: np.ndarray, k: int, decimals: int) -> None:
    """At least the k best, in the order of the whole; with many equal logits."""
    logits = logits.round(decimals)
    whole, short = Candidates.from_logits(logits), Candidates.from_logits(logits, k)
    n = len(short)
    assert n >= min(k, len(logits)) and n + short.tail_count == len(logits)
    assert short.ids.tolist() == whole.ids[:n].tolist() and np.array_equal(short.logits, whole.logits[:n])
    tail = float(whole.weights[n:].sum())
    assert short.tail_low <= tail <= short.tail_high + 1e-300 and np.all(whole.logits[n:] <= short.ceiling)


def test_ties_go_to_the_lowest_id() -> None:
    logits = np.array([1, 3, 2, 3, 3], np.float32)
    assert TopK(2).apply(Candidates.from_logits(logits)).ids.tolist() == [1, 3]
    assert Greedy().apply(device_top(logits, 4)).ids.tolist() == [1]


# ---- penalties and biases ----


@settings(max_examples=100)
@given(
    tokens=st.lists(st.integers(0, 19), max_size=150),
    presence=st.floats(-2, 2),
    frequency=st.floats(-2, 2),
    decay=st.floats(0, 1),
)
def test_occurrence_penalty_is_the_rwkv_script(tokens: list[int], presence: float, frequency: float, decay: float) -> None:
    sampler = OccurrencePenalty(presence, frequency, decay)
    sampler.start([1, 2, 3], 20)
    occurrence: dict[int, float] = {}
    for token in tokens:
        for key in occurrence:
            occurrence[key] *= decay
        occurrence[token] = occurrence.get(token, 0) + 1
        sampler.accept(token)
    bias = sampler.bias()
    got = {} if bias is None else dict(zip(bias[0].tolist(), bias[1].tolist()))
    assert got.keys() == occurrence.keys()
    for token, count in occurrence.items():
        assert got[token] == pytest.approx(-presence - frequency * count, rel=1e-5, abs=1e-5)


def test_occurrence_penalty_outgrows_its_first_arrays() -> None:
    sampler = OccurrencePenalty(1.0, 1.0, 1.0)
    for token in range(1000):
        sampler.accept(token)
    bias = sampler.bias()
    assert bias is not None and bias[0].tolist() == list(range(1000)) and set(bias[1].tolist()) == {-2.0}


def naive_repeat(logits: np.ndarray, history: list[int], penalty: float) -> np.ndarray:
    lowered = logits.astype(np.float64)
    for token in set(history):
        lowered[token] = lowered[token] / penalty if lowered[token] > 0 else lowered[token] * penalty
    return lowered


@settings(max_examples=200)
@given(
    logits=logits_of,
    data=st.data(),
    k=st.integers(1, 300),
    penalty=st.floats(0.5, 3.0),
    last_n=st.integers(0, 30),
)
def test_repeat_penalty(logits: np.ndarray, data: st.DataObject, k: int, penalty: float, last_n: int) -> None:
    history = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=60))
    split = data.draw(st.integers(0, len(history)))
    sampler = RepeatPenalty(penalty, last_n)
    sampler.start(history[:split], len(logits))
    for token in history[split:]:
        sampler.accept(token)
    expected = naive_repeat(logits, history[-last_n:] if last_n else [], penalty)
    whole = sampler.apply(Candidates.from_logits(logits))
    np.testing.assert_allclose(distribution(whole, len(logits)), softmax(expected), rtol=1e-9, atol=1e-14)
    try:
        short = sampler.apply(device_top(logits, k))
    except NeedMoreCandidates:
        return
    n = len(short)
    assert short.ids.tolist() == whole.ids[:n].tolist()
    np.testing.assert_allclose(short.logits, whole.logits[:n], rtol=1e-12)
    tail = float(np.exp(whole.logits[n:] - short.peak).sum())
    assert short.tail_low <= tail * (1 + 1e-9) + 1e-12 and tail <= short.tail_high * (1 + 1e-9) + 1e-12
    assert np.all(whole.logits[n:] <= short.ceiling) or short.complete


@settings(max_examples=100)
@given(logits=logits_of, data=st.data(), k=st.integers(1, 300))
def test_repeat_penalty_ranks_equal_logits_by_id(logits: np.ndarray, data: st.DataObject, k: int) -> None:
    """Logits that are multiples of 1/2 and a penalty of 2: no rounding, many ties."""
    logits = (logits * 2).round() / 2
    history = data.draw(st.lists(st.integers(0, len(logits) - 1), max_size=40))
    sampler = RepeatPenalty(2.0, 64)
    sampler.start(history, len(logits))
    ranked = by_rank(naive_repeat(logits, history, 2.0))
    assert sampler.apply(Candidates.from_logits(logits)).ids.tolist() == ranked
    try:
        short = sampler.apply(device_top(logits, k))
    except NeedMoreCandidates:
        return
    assert short.ids.tolist() == ranked[: len(short)]


def test_logit_bias_and_ban() -> None:
    chain = SamplerChain([LogitBias({3: 100.0, 7: -math.inf}), Greedy()], seed=0)
    chain.start([], 10)
    logits = np.zeros(10, np.float32)
    logits[7] = 50

    assert run_chain(chain, lambda _: logits, 1) == [3]
    assert not chain.is_argmax
    everything = LogitBias({i: -math.inf for i in range(10)})
    chain = SamplerChain([everything], seed=0)
    chain.start([], 10)
    with pytest.raises(InputError, match="bans every token"):
        run_chain(chain, lambda _: logits, 1)


def test_banned_tokens_are_never_drawn() -> None:
    banned = set(range(0, 2000, 2))
    logits = random_logits(5, 2000, 0.5)
    chain = SamplerChain([LogitBias(dict.fromkeys(banned, -math.inf)), Temperature(3.0)], seed=1)
    chain.start([], 2000)
    assert banned.isdisjoint(run_chain(chain, lambda _: logits, 300))


def test_biases_of_two_samplers_add_up() -> None:
    penalty = OccurrencePenalty(presence=1.5)
    penalty.accept(4)
    chain = SamplerChain([LogitBias({4: 2.0, 5: 1.0}), penalty, Greedy()], seed=0)
    seen = {}

    def fetch(k: int, bias: tuple[np.ndarray, np.ndarray] | None) -> Candidates:
        assert bias is not None and bias[0].dtype == np.int32 and bias[1].dtype == np.float32
        seen.update(zip(bias[0].tolist(), bias[1].tolist()))
        return Candidates.from_logits(np.zeros(8, np.float32))

    chain.next_token(fetch, 8)
    assert seen == {4: 0.5, 5: 1.0}


# ---- mirostat ----


def test_mirostat_is_algorithm_2_of_the_paper() -> None:
    tau, eta, n = 3.0, 0.2, 500
    sampler = Mirostat(tau, eta)
    sampler.start([], n)
    rng = np.random.default_rng(0)
    mu = 2 * tau
    seen_short_of_whole = 0
    for step in range(200):
        logits = random_logits(step, n, 1 + step % 4)
        p = softmax(logits)
        kept = [i for i in by_rank(p) if -math.log2(p[i]) <= mu] or by_rank(p)[:1]
        after = distribution(sampler.apply(Candidates.from_logits(logits)), n)
        np.testing.assert_allclose(after, keep(p, kept), rtol=1e-9)
        seen_short_of_whole += len(kept) < n
        token = int(rng.choice(n, p=after / after.sum()))
        sampler.accept(token)
        mu -= eta * (-math.log2(keep(p, kept)[token]) - tau)
        assert sampler.mu == pytest.approx(mu, rel=1e-9)
    assert seen_short_of_whole > 100


@settings(max_examples=150)
@given(logits=logits_of, k=st.integers(1, 300), tau=st.floats(0.1, 6))
def test_mirostat_on_a_short_list(logits: np.ndarray, k: int, tau: float) -> None:
    whole = Mirostat(tau).apply(Candidates.from_logits(logits))
    try:
        short = Mirostat(tau).apply(device_top(logits, k))
    except NeedMoreCandidates:
        assert k < len(logits)
        return
    assert short.complete and short.ids.tolist() == whole.ids.tolist()


# ---- whole chains ----


def run_chain(chain: SamplerChain, logits_at, n_tokens: int, *, whole: bool = False, lengths: list[int] | None = None) -> list[int]:
    """Tokens that a chain draws when step i has the logits `logits_at(i)`; whole: every fetch reads all of them."""
    tokens = []
    for i in range(n_tokens):
        logits = logits_at(i)

        def fetch(k: int, bias: tuple[np.ndarray, np.ndarray] | None, logits: np.ndarray = logits) -> Candidates:
            biased = logits.copy()
            if bias is not None:
                assert len(set(bias[0].tolist())) == len(bias[0]), "ids must be distinct"
                biased[bias[0]] += bias[1]
            if lengths is not None:
                lengths.append(k)
            if whole:
                return Candidates.from_logits(biased)
            return device_top(biased, k) if k <= DEVICE_K[-1] else Candidates.from_logits(biased, k)

        tokens.append(chain.next_token(fetch, len(logits)))
    return tokens


def naive_text(params: SamplingParams, seed: int, prompt: list[int], logits_at, n_tokens: int) -> list[int]:
    """The documented order of SamplingParams, token by token over the whole vocabulary."""
    uniform = np.random.Generator(np.random.PCG64(seed)).random
    counts: dict[int, float] = {}
    history = list(prompt)
    mu = 2 * params.mirostat_tau
    out = []
    for step in range(n_tokens):
        logits = logits_at(step).astype(np.float64)
        for token, value in (params.logit_bias or {}).items():
            logits[token] += max(value, BANNED_LOGIT)
        for token, count in counts.items():
            logits[token] -= params.presence_penalty + params.frequency_penalty * count
        recent = history[max(0, len(history) - params.repeat_last_n):] if params.repeat_last_n else []
        logits = naive_repeat(logits, recent, params.repeat_penalty)
        p = softmax(logits)
        if params.temperature == 0 or params.top_k == 1:
            p = naive_top_k(p, 1)
        elif params.mirostat:
            p = naive_temperature(p, params.temperature)
            p = keep(p, [i for i in by_rank(p) if p[i] > 0 and -math.log2(p[i]) <= mu] or by_rank(p)[:1])
        else:
            p = naive_top_k(p, params.top_k or len(p))
            p = naive_typical_p(p, params.typical_p) if params.typical_p < 1 else p
            top_p = 0.7 if params.top_p is None else params.top_p
            p = naive_top_p(p, top_p) if top_p < 1 else p
            p = naive_min_p(p, params.min_p)
            p = naive_temperature(p, params.temperature)
        u = uniform()
        running, token = 0.0, -1
        for token in by_rank(p):
            running += p[token]
            if running > u:
                break
        mu -= params.mirostat_eta * (-math.log2(p[token]) - params.mirostat_tau) if params.mirostat else 0
        counts = {t: c * params.penalty_decay for t, c in counts.items()}
        counts[token] = counts.get(token, 0) + 1
        history.append(token)
        out.append(token)
    return out


PARAMS = {
    "default": SamplingParams(),
    "pure": SamplingParams(top_p=1.0),
    "hot": SamplingParams(temperature=1.7, top_p=1.0),
    "cold": SamplingParams(temperature=0.3, top_p=1.0),
    "greedy": SamplingParams(temperature=0.0),
    "top_k 1": SamplingParams(top_k=1),
    "wide": SamplingParams(top_p=0.97, temperature=1.3),
    "top_k": SamplingParams(top_k=40, top_p=0.95, temperature=0.8),
    "large top_k": SamplingParams(top_k=500, top_p=1.0),
    "min_p": SamplingParams(min_p=0.02, top_p=1.0, temperature=1.5),
    "typical": SamplingParams(typical_p=0.5, top_p=1.0),
    "typical of top_k": SamplingParams(typical_p=0.5, top_k=60),
    "rwkv penalties": SamplingParams(presence_penalty=0.5, frequency_penalty=0.5, penalty_decay=0.99, top_p=0.6),
    "greedy penalties": SamplingParams(temperature=0.0, presence_penalty=0.4, frequency_penalty=0.4, repeat_penalty=1.1),
    "repeat": SamplingParams(repeat_penalty=1.3, repeat_last_n=20, top_p=1.0, temperature=0.7),
    "reward": SamplingParams(repeat_penalty=0.8, top_p=0.9),
    "mirostat": SamplingParams(mirostat=2, mirostat_tau=4.0, mirostat_eta=0.3),
    "mirostat hot": SamplingParams(mirostat=True, temperature=1.4, repeat_penalty=1.2),
    "bias": SamplingParams(logit_bias={3: 5.0, 10: -math.inf, 11: -2.5}, presence_penalty=0.3),
}


@pytest.mark.parametrize("name", PARAMS)
def test_chain_draws_what_the_naive_definition_draws(name: str) -> None:
    params, n_vocab, n_tokens = PARAMS[name], 9000, 50
    base = random_logits(0, n_vocab, 2.5)
    base[:20] += 6  # a head as a trained model's logits have, with a long tail

    def logits_at(step: int) -> np.ndarray:
        return (base + random_logits(step + 1, n_vocab, 0.7)).astype(np.float32)

    prompt = np.argsort(-base)[:30].tolist()
    lengths: list[int] = []
    texts = {}
    for whole in (False, True):
        chain = SamplerChain(params.samplers(), seed=42)
        chain.start(prompt, n_vocab)
        texts[whole] = run_chain(chain, logits_at, n_tokens, whole=whole, lengths=None if whole else lengths)
    assert texts[False] == texts[True], "a short candidate list changed the text"
    assert texts[True] == naive_text(params, 42, prompt, logits_at, n_tokens)
    if name == "typical":
        assert set(lengths) == {DEVICE_K[0], n_vocab} and lengths.count(DEVICE_K[0]) < 5
    if name in ("hot", "wide"):
        assert {DEVICE_K[0], HOST_K} <= set(lengths), "this case must exercise short lists and their refusal"
    if name in ("greedy", "top_k", "typical of top_k"):
        assert set(lengths) == {DEVICE_K[0]}, "this case must not need more than the first list"
    if name == "large top_k":
        assert set(lengths) == {DEVICE_K[1]}
    assert len(set(texts[True])) > 1


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    scale=st.floats(0.3, 6),
    temperature=st.floats(0.1, 3),
    top_p=st.floats(0.05, 1),
    top_k=st.integers(0, 1500),
    min_p=st.sampled_from([0.0, 0.01, 0.2]),
    repeat_penalty=st.sampled_from([0.9, 1.0, 1.2, 2.0]),
    presence=st.floats(-1, 1),
)
def test_list_length_never_changes_the_text(seed, scale, temperature, top_p, top_k, min_p, repeat_penalty, presence) -> None:
    params = SamplingParams(
        temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p, repeat_penalty=repeat_penalty, presence_penalty=presence
    )
    texts = []
    for whole in (False, True):
        chain = SamplerChain(params.samplers(), seed)
        chain.start([1, 2, 3], 9000)
        texts.append(run_chain(chain, lambda i: random_logits(seed + i, 9000, scale), 8, whole=whole))
    assert texts[0] == texts[1]


def test_seed_decides() -> None:
    def text(seed: int) -> list[int]:
        chain = SamplerChain([], seed)
        chain.start([], 500)
        return run_chain(chain, lambda i: random_logits(i, 500, 1.0), 30)

    assert text(7) == text(7)
    assert text(7) != text(8)


def test_frequencies_match_the_distribution() -> None:
    """Pearson's chi-squared over 20 outcomes: 99.99 % of fair samplers stay below 52 (19 degrees of freedom)."""
    logits = random_logits(3, 20, 1.0)
    chain = SamplerChain([Temperature(1.5)], seed=11)
    chain.start([], 20)
    n = 20000
    counts = np.bincount(run_chain(chain, lambda _: logits, n), minlength=20)
    expected = n * naive_temperature(softmax(logits), 1.5)
    assert ((counts - expected) ** 2 / expected).sum() < 52


def test_argmax_is_recognised() -> None:
    assert SamplerChain(SamplingParams(temperature=0).samplers(), 0).is_argmax
    assert SamplerChain(SamplingParams(top_k=1, top_p=0.5, temperature=2.0).samplers(), 0).is_argmax
    assert not SamplerChain(SamplingParams(temperature=0, presence_penalty=0.1).samplers(), 0).is_argmax
    assert not SamplerChain(SamplingParams().samplers(), 0).is_argmax


def test_custom_sampler() -> None:
    class Even(Sampler):
        def apply(self, candidates: Candidates) -> Candidates:
            return candidates.subset(np.flatnonzero(candidates.ids % 2 == 0))

    chain = SamplerChain([TopK(50), Even()], seed=0)
    chain.start([], 1000)
    tokens = run_chain(chain, lambda i: random_logits(i, 1000, 1.0), 40)
    assert all(t % 2 == 0 for t in tokens) and len(set(tokens)) > 10


def test_damaged_logits_are_reported() -> None:
    for bad in (np.nan, np.inf):
        logits = np.zeros(300, np.float32)
        logits[5] = bad
        with pytest.raises(RwkvError, match="not all finite"):
            Candidates.from_logits(logits)
    ids = np.arange(4, dtype=np.int32)
    with pytest.raises(RwkvError, match="not all finite"):
        Candidates.from_top(ids, np.zeros(4, np.float32), math.nan, 300)


def test_extreme_numbers_stay_exact() -> None:
    """Huge biases and logits far apart must neither overflow nor lose the certain winner."""
    logits = random_logits(0, 2000, 1.0)
    params = SamplingParams(logit_bias={17: 1e6}, temperature=2.0, repeat_penalty=1.5)
    chain = SamplerChain(params.samplers(), 0)
    chain.start([17], 2000)
    assert run_chain(chain, lambda _: logits, 3) == [17, 17, 17]
    far = np.linspace(-3e4, 3e4, 2000).astype(np.float32)
    for t in (0.001, 1.0, 100.0):
        chain = SamplerChain([Temperature(t)], 0)
        chain.start([], 2000)
        assume_token = run_chain(chain, lambda _: far, 1)[0]
        assert 0 <= assume_token < 2000


# ---- parameters ----

NAN, INF = math.nan, math.inf
BAD = [
    ("temperature", NAN), ("temperature", INF), ("temperature", -0.1), ("temperature", "hot"), ("temperature", True),
    ("temperature", None), ("top_k", -1), ("top_k", 1.5), ("top_k", "40"), ("top_k", NAN), ("top_p", NAN), ("top_p", -0.1),
    ("top_p", 1.01), ("top_p", "0.5"), ("min_p", NAN), ("min_p", -1), ("min_p", 1.5), ("typical_p", NAN), ("typical_p", 0),
    ("typical_p", 2), ("presence_penalty", NAN), ("presence_penalty", -INF), ("presence_penalty", 1e9),
    ("frequency_penalty", NAN), ("frequency_penalty", INF), ("penalty_decay", NAN), ("penalty_decay", -0.5),
    ("penalty_decay", 1.5), ("repeat_penalty", NAN), ("repeat_penalty", 0), ("repeat_penalty", -1), ("repeat_penalty", INF),
    ("repeat_last_n", -1), ("repeat_last_n", 2.5), ("mirostat", 1), ("mirostat", 3), ("mirostat", "yes"),
    ("mirostat_tau", NAN), ("mirostat_tau", 0), ("mirostat_eta", -1), ("mirostat_eta", NAN), ("logit_bias", [1, 2]),
    ("logit_bias", {1: NAN}), ("logit_bias", {1: INF}), ("logit_bias", {"a": 1.0}), ("logit_bias", {-1: 1.0}),
    ("logit_bias", {1: "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v}" for n, v in BAD])
def test_bad_parameter_has_its_own_sentence(name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    message = str(caught.value)
    assert name in message and "expected" in message and "got" in message


def test_mirostat_refuses_filters() -> None:
    for options in ({"top_k": 40}, {"top_p": 0.5}, {"min_p": 0.1}, {"typical_p": 0.5}):
        with pytest.raises(InputError, match="mirostat takes the place"):
            SamplingParams(mirostat=True, **options)
    SamplingParams(mirostat=True, top_p=1.0, temperature=0.5)


def test_numpy_numbers_are_numbers() -> None:
    params = SamplingParams(temperature=np.float32(0.5), top_k=np.int64(5), logit_bias={np.int32(3): np.float64(1)})
    assert len(params.samplers()) == 4  # bias, top_k, the default top_p, temperature


def test_bias_out_of_the_vocabulary() -> None:
    chain = SamplerChain([LogitBias({100: 1.0})], 0)
    with pytest.raises(InputError, match="<= 99, got 100"):
        chain.start([], 100)
