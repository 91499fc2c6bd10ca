"""RWKV-7 in torch, for training. The math and its symbols are those of shared/rwkv7-gguf.md (the inference contract).

Parameters are float32; matrix products run in bfloat16; norms, mixes and the recurrence in float32. The element-wise parts
are free functions so that torch.compile fuses each into a kernel or two and all layers share them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

from wkv7_train import wkv7

DECAY_SCALE = 0.606531          # exp(-0.5)
GROUP_NORM_EPS = 64e-5
MIXES = "rwkvag"                # order of time_mix_lerp_fused


@dataclass(frozen=True)
class Config:
    """Shape of the model; ``vocab`` is the number of tokens."""

    vocab: int
    width: int = 256
    layers: int = 10
    hidden: int = 1024
    head_size: int = 64
    decay_rank: int = 32
    iclr_rank: int = 32
    value_rank: int = 32
    gate_rank: int = 32
    norm_eps: float = 1e-5

    as_dict = asdict


def _shifted(h):
    return F.pad(h, (0, 0, 1, -1))


def time_mix_inputs(x, weight, bias, lerp):
    """LN, shift and the six mixes: x [B,T,C] -> six bfloat16 [B,T,C], order r w k v a g."""
    h = F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)
    delta = _shifted(h) - h
    return tuple((h + delta * lerp[i]).bfloat16() for i in range(6))


def channel_mix_input(x, weight, bias, lerp):
    """LN, shift and mix of the feed-forward part."""
    h = F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5)
    return (h + (_shifted(h) - h) * lerp).bfloat16()


def recurrence_inputs(r, k, w, a, w0, a0, k_k, k_a):
    """Decay, in-context learning rate and keys: -> r, w, k, -kk, kk * a, float32 [B,T,H,N]."""
    heads = (*r.shape[:-1], -1, 64)
    r, k = r.float(), k.float()
    w = torch.exp(-DECAY_SCALE * torch.sigmoid(w0 + w.float()))
    a = torch.sigmoid(a0 + a.float())
    kk = F.normalize((k * k_k).view(heads), dim=-1, eps=1e-12)
    k = k * (1 + (a - 1) * k_a)
    return r.view(heads), w.view(heads), k.view(heads), -kk, kk * a.view(heads)


def value_mix(v, v_first, gate, v0):
    """v + (v_first - v) * sigmoid(v0 + gate)."""
    v = v.float()
    return v + (v_first - v) * torch.sigmoid(v0 + gate.float())


def time_mix_output(y, r, k, v, g, weight, bias, r_k):
    """Group norm per head, bonus and gate: -> bfloat16 [B,T,C]."""
    centred = y - y.mean(-1, keepdim=True)
    y = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + GROUP_NORM_EPS)
    bonus = (r * k * r_k.view(r.shape[-2:])).sum(-1, keepdim=True) * v
    return ((y.flatten(-2) * weight + bias + bonus.flatten(-2)) * g.float()).bfloat16()


def squared_relu(k):
    """relu(k)^2"""
    return torch.relu(k).square()


class Block(nn.Module):
    """One layer. Attribute names are the GGUF names; LoRA matrices are kept as [in, out]."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        C, Fh, L = config.width, config.hidden, config.layers
        depth, rest = layer / max(L - 1, 1), 1 - layer / L             # 0..1 over depth; 1..almost 0
        channel = torch.arange(C) / C
        line = torch.arange(C) / (C - 1) - 0.5
        zigzag = ((torch.arange(C) % 64) - 31.5) / 31.5
        zigzag = zigzag * zigzag.abs()
        P = nn.Parameter

        def uniform(rows, columns, scale):
            return P(torch.empty(rows, columns).uniform_(-scale, scale))

        def orthogonal(rows, columns, gain):
            return P(nn.init.orthogonal_(torch.empty(rows, columns), gain))

        self.attn_norm, self.attn_norm_bias = P(torch.ones(C)), P(torch.zeros(C))
        self.attn_norm_2, self.attn_norm_2_bias = P(torch.ones(C)), P(torch.zeros(C))
        self.time_mix_ln, self.time_mix_ln_bias = P(torch.full((C,), ((1 + layer) / L) ** 0.7)), P(torch.zeros(C))
        # The share of the previous token: more of it in early layers and first channels.
        powers = dict(r=0.2, w=0.9, k=0.7, v=0.7, a=0.9, g=0.2)
        self.time_mix_lerp_fused = P(torch.stack([1 - channel ** (powers[m] * rest) for m in MIXES]))
        self.channel_mix_lerp_k = P(1 - channel ** (rest ** 4))
        # Decay: a ramp over channels from slow to fast, steeper in deep layers.
        self.time_mix_w0 = P(-6.5 + 5 * (channel * C / (C - 1)) ** (0.85 + depth ** 0.5) + 2.5 * zigzag)
        self.time_mix_a0 = P(-0.19 + 0.3 * zigzag + 0.4 * line)
        self.time_mix_k_k = P(0.71 - 0.1 * line)
        self.time_mix_k_a = P(torch.full((C,), 1.02))
        self.time_mix_r_k = P(torch.full((C,), -0.04))
        self.time_mix_w1, self.time_mix_w2 = P(torch.zeros(C, config.decay_rank)), orthogonal(config.decay_rank, C, 0.1)
        self.time_mix_a1, self.time_mix_a2 = P(torch.zeros(C, config.iclr_rank)), orthogonal(config.iclr_rank, C, 0.1)
        self.time_mix_g1, self.time_mix_g2 = P(torch.zeros(C, config.gate_rank)), orthogonal(config.gate_rank, C, 0.1)
        if layer:
            self.time_mix_v0 = P(0.73 - 0.4 * line)
            self.time_mix_v1, self.time_mix_v2 = P(torch.zeros(C, config.value_rank)), orthogonal(config.value_rank, C, 0.1)
        unit = C ** -0.5
        self.time_mix_receptance, self.time_mix_key = uniform(C, C, 0.5 * unit), uniform(C, C, 0.05 * unit)
        self.time_mix_value, self.time_mix_output = uniform(C, C, 0.5 * unit), P(torch.zeros(C, C))
        self.channel_mix_key, self.channel_mix_value = uniform(Fh, C, 0.5 * unit), P(torch.zeros(C, Fh))
        self.layer = layer

    def forward(self, x, v_first, fused):
        """x float32 [B,T,C] -> (x, v_first)."""
        def matrix(z, weight):
            return F.linear(z, weight.bfloat16())

        def lora(z, first, second, activation=lambda u: u):
            return activation(z @ first.bfloat16()) @ second.bfloat16()

        xr, xw, xk, xv, xa, xg = fused.time_mix_inputs(x, self.attn_norm, self.attn_norm_bias, self.time_mix_lerp_fused)
        r, k, v = matrix(xr, self.time_mix_receptance), matrix(xk, self.time_mix_key), matrix(xv, self.time_mix_value)
        w = lora(xw, self.time_mix_w1, self.time_mix_w2, torch.tanh)
        a = lora(xa, self.time_mix_a1, self.time_mix_a2)
        g = lora(xg, self.time_mix_g1, self.time_mix_g2, torch.sigmoid)
        if self.layer:
            v = fused.value_mix(v, v_first, lora(xv, self.time_mix_v1, self.time_mix_v2), self.time_mix_v0)
        else:
            v = v_first = v.float()
        r, w, k, negative_kk, kk_a = fused.recurrence_inputs(r, k, w, a, self.time_mix_w0, self.time_mix_a0, self.time_mix_k_k,
                                                             self.time_mix_k_a)
        v = v.view(r.shape)
        y = wkv7(r, w, k, v, negative_kk, kk_a)
        y = fused.time_mix_output(y, r, k, v, g, self.time_mix_ln, self.time_mix_ln_bias, self.time_mix_r_k)
        x = x + matrix(y, self.time_mix_output)
        k = matrix(fused.channel_mix_input(x, self.attn_norm_2, self.attn_norm_2_bias, self.channel_mix_lerp_k), self.channel_mix_key)
        return x + matrix(fused.squared_relu(k), self.channel_mix_value), v_first


class Fused:
    """The element-wise parts, compiled or as they are."""

    def __init__(self, compiled: bool) -> None:
        for function in (time_mix_inputs, channel_mix_input, recurrence_inputs, value_mix, time_mix_output, squared_relu):
            setattr(self, function.__name__, torch.compile(function, dynamic=False) if compiled else function)


class Rwkv7(nn.Module):
    """The whole model: tokens [B,T] -> logits [B,T,V] (bfloat16)."""

    def __init__(self, config: Config, compiled: bool = True) -> None:
        super().__init__()
        C = config.width
        self.config, self.fused = config, Fused(compiled)
        self.token_embd = nn.Parameter(torch.randn(config.vocab, C) * 0.01)
        self.token_embd_norm, self.token_embd_norm_bias = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))
        self.blk = nn.ModuleList(Block(config, i) for i in range(config.layers))
        self.output_norm, self.output_norm_bias = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))
        self.output = nn.Parameter(torch.empty(config.vocab, C).uniform_(-0.5 * C ** -0.5, 0.5 * C ** -0.5))

    def forward(self, tokens):
        C = self.config.width
        x = F.layer_norm(F.embedding(tokens, self.token_embd), (C,), self.token_embd_norm, self.token_embd_norm_bias, 1e-5)
        v_first = None
        for block in self.blk:
            x, v_first = block(x, v_first, self.fused)
        x = F.layer_norm(x, (C,), self.output_norm, self.output_norm_bias, 1e-5)
        return F.linear(x.bfloat16(), self.output.bfloat16())

    def parameter_groups(self, rate: float, decay: float) -> list[dict]:
        """AdamW groups: weight decay on the large matrices only, twice the rate for the decay bias w0."""
        plain, decayed, fast = [], [], []
        for name, parameter in self.named_parameters():
            if name.endswith("time_mix_w0"):
                fast.append(parameter)
            elif parameter.ndim == 2 and min(parameter.shape) >= self.config.width and "embd" not in name:
                decayed.append(parameter)
            else:
                plain.append(parameter)
        return [dict(params=plain, weight_decay=0.0, scale=1.0), dict(params=decayed, weight_decay=decay, scale=1.0),
                dict(params=fast, weight_decay=0.0, scale=2.0)]
