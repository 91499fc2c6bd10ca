"""python/tools/embedded_gguf.py: a training run's parameters become a GGUF that the package and the oracle read."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python" / "tools"))

from embedded_gguf import CHAT_TEMPLATE, export  # noqa: E402
from oracle import Oracle  # noqa: E402
from rwkvnative.gguf_file import GgufFile  # noqa: E402
from rwkvnative.model_config import rwkv_config  # noqa: E402
from rwkvnative.vocabulary import world_vocabulary  # noqa: E402

CONFIG = dict(vocab=300, width=128, layers=2, hidden=256, head_size=64, decay_rank=8, iclr_rank=16, value_rank=24, gate_rank=40, norm_eps=1e-5)
TOKENS = [b"<s>", *(bytes([b]) for b in range(256)), b"\t\t", b"\r\n", b"  ", b"'s", b"\n\n", *(b"\\%d'\"\xff" % i for i in range(38))]


@pytest.fixture
def run(tmp_path):
    """A folder as `train_embedded.py train` leaves it, with random parameters in two parts."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32) * 0.1
    C, F, V = CONFIG["width"], CONFIG["hidden"], CONFIG["vocab"]
    ranks = {"w": 8, "a": 16, "v": 24, "g": 40}
    top = {"token_embd": draw(V, C), "output": draw(V, C)}
    for name in ("token_embd_norm", "output_norm"):
        top |= {name: draw(C), name + "_bias": draw(C)}
    blocks = {}
    for i in range(CONFIG["layers"]):
        block = {"time_mix_lerp_fused": draw(6, C), "channel_mix_lerp_k": draw(C), "channel_mix_key": draw(F, C), "channel_mix_value": draw(C, F)}
        for name in ("attn_norm", "attn_norm_2", "time_mix_ln"):
            block |= {name: draw(C), name + "_bias": draw(C)}
        for name in ("w0", "a0", "v0", "k_k", "k_a", "r_k"):
            block["time_mix_" + name] = draw(C)
        for name in ("receptance", "key", "value", "output"):
            block["time_mix_" + name] = draw(C, C)
        for name, rank in ranks.items():
            block |= {f"time_mix_{name}1": draw(C, rank), f"time_mix_{name}2": draw(rank, C)}
        if i == 0:
            block = {n: a for n, a in block.items() if not n.startswith("time_mix_v") or n == "time_mix_value"}
        blocks |= {f"blk.{i}.{n}": a for n, a in block.items()}
    np.savez(tmp_path / "params_0.npz", **top)
    np.savez(tmp_path / "params_1.npz", **blocks)
    (tmp_path / "tokens.json").write_text(json.dumps([t.hex() for t in TOKENS]))
    (tmp_path / "log.json").write_text(json.dumps(dict(config=CONFIG)))
    return tmp_path, top | blocks


def test_export_follows_the_contract(run):
    folder, parameters = run
    path = folder / "model.gguf"
    export(folder, path)
    with GgufFile(path) as file:
        arch, config = rwkv_config(file)
        assert arch == "rwkv7"
        expected = dict(n_layer=2, n_embd=128, n_ff=256, head_size=64, n_vocab=300, decay_rank=8, iclr_rank=16, value_rank=24, gate_rank=40)
        assert {k: config[k] for k in expected} == expected
        vocabulary = world_vocabulary(file)
        assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.eot_id) == (0, 0, 261)
        assert file.metadata["general.license"] == "mit"
        assert file.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
    oracle = Oracle(path)
    weights = oracle.weights
    np.testing.assert_array_equal(weights["blk.1.time_mix_g1.weight"], parameters["blk.1.time_mix_g1"].T)
    np.testing.assert_array_equal(weights["blk.1.time_mix_w2.weight"], parameters["blk.1.time_mix_w2"].T)
    np.testing.assert_array_equal(weights["blk.0.channel_mix_key.weight"], parameters["blk.0.channel_mix_key"])
    np.testing.assert_array_equal(weights["blk.0.time_mix_v1.weight"], parameters["blk.0.time_mix_a1"].T)     # unused, as the format has it
    assert weights["blk.0.time_mix_lerp_fused.weight"].shape == (6, 1, 1, 128)
    logits, _ = oracle.forward([1, 261, 299])
    assert logits.shape == (3, 300) and np.isfinite(logits).all()


def test_template_writes_the_world_format():
    from jinja2 import Environment
    for environment in (Environment(), Environment(trim_blocks=True, lstrip_blocks=True)):
        template = environment.from_string(CHAT_TEMPLATE)
        messages = [dict(role="system", content="Be kind."), dict(role="user", content=" Hi\n"), dict(role="assistant", content="Hello"), dict(role="user", content="A story")]
        assert template.render(messages=messages, add_generation_prompt=True) == (
            "System: Be kind.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: A story\n\nAssistant:")
        assert template.render(messages=messages[1:3]) == "User: Hi\n\nAssistant: Hello\n\n"


def test_missing_parameters_are_named(tmp_path):
    (tmp_path / "log.json").write_text(json.dumps(dict(config=CONFIG)))
    (tmp_path / "tokens.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match="params_"):
        export(tmp_path, tmp_path / "x.gguf")
