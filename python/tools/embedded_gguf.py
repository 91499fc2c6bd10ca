"""Write trained parameters as a GGUF file by the rwkv7 contract (shared/rwkv7-gguf.md), all tensors F32."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np

NAME = "rwkvnative stories"
DESCRIPTION = ("A small RWKV-7 that tells short English stories and answers simple questions about them. "
               "Trained on text written by a grammar (python/tools/stories); it knows nothing else.")
CONTEXT_LENGTH = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}System: {% elif message['role'] == 'user' %}User: {% else %}Assistant: {% endif %}"
    "{{ (message['content'] | trim) + '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def load_parameters(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of params_*.npz, by their torch names."""
    arrays: dict[str, np.ndarray] = {}
    for part in sorted(folder.glob("params_*.npz")):
        with np.load(part) as opened:
            arrays.update({name: opened[name] for name in opened.files})
    if not arrays:
        raise FileNotFoundError(f"export: no params_*.npz in {folder}")
    return arrays


def gguf_tensors(arrays: dict[str, np.ndarray], layers: int) -> dict[str, np.ndarray]:
    """GGUF names and arrays (numpy shape = GGML shape reversed) from torch names."""
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        base = name
        suffix = ".weight"
        if name.endswith("_bias"):
            base, suffix = name[:-5], ".bias"
        leaf = base.rsplit(".", 1)[-1]
        if leaf == "time_mix_lerp_fused":
            array = array.reshape(6, 1, 1, -1)
        elif leaf[:-1] in ("time_mix_w", "time_mix_a", "time_mix_v", "time_mix_g") and leaf[-1] in "12":
            array = array.T             # kept as [in, out]; GGUF wants {in, out}, which numpy calls (out, in)
        out[base + suffix] = np.ascontiguousarray(array, np.float32)
    for i in "012":                     # unused in block 0, but part of the format
        out[f"blk.0.time_mix_v{i}.weight"] = out[f"blk.0.time_mix_a{i}.weight"]
    return out


def token_string(token: bytes) -> str:
    """The escaped form of the ``rwkv`` tokenizer model: the inside of a Python bytes literal."""
    return repr(token)[2:-1]


def export(folder: Path, out: Path) -> None:
    """Write ``out`` from the params_*.npz, tokens.json and log.json of a training run."""
    record = json.loads((folder / "log.json").read_text())
    config = record["config"]
    tokens = [bytes.fromhex(t) for t in json.loads((folder / "tokens.json").read_text())]
    tensors = gguf_tensors(load_parameters(folder), config["layers"])

    writer = gguf.GGUFWriter(str(out), "rwkv7")
    writer.add_name(NAME)
    writer.add_description(DESCRIPTION)
    writer.add_license("mit")
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT_LENGTH)
    writer.add_embedding_length(config["width"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["hidden"])
    writer.add_layer_norm_eps(config["norm_eps"])
    writer.add_head_count(0)
    writer.add_wkv_head_size(config["head_size"])
    writer.add_decay_lora_rank(config["decay_rank"])
    writer.add_iclr_lora_rank(config["iclr_rank"])
    writer.add_value_residual_mix_lora_rank(config["value_rank"])
    writer.add_gate_lora_rank(config["gate_rank"])
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([token_string(t) for t in tokens])
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_eot_token_id(261)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"export: {out}: {len(tensors)} tensors, {sum(a.size for a in tensors.values())} values, {out.stat().st_size / 1e6:.1f} MB")
