"""The wkv7 recurrence as a differentiable torch function over CUDA kernels (``wkv7_train.cu``).

The kernels are compiled with nvcc into a plain shared library and called through ctypes: a build takes seconds.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

import torch

HEAD_SIZE = 64
CHUNK = 16
_SOURCE = Path(__file__).with_name("wkv7_train.cu")
_library: ctypes.CDLL | None = None


def build() -> ctypes.CDLL:
    """Compile the kernels (once per process) and return the library."""
    global _library
    if _library is None:
        target = Path(tempfile.mkdtemp()) / "wkv7_train.so"
        major, minor = torch.cuda.get_device_capability()
        subprocess.run(["nvcc", "-O3", f"-arch=sm_{major}{minor}", "-shared", "-Xcompiler", "-fPIC", "-o", str(target), str(_SOURCE)],
                       check=True)
        _library = ctypes.CDLL(str(target))
    return _library


def _launch(name: str, shape: tuple[int, int, int], tensors: list[torch.Tensor]) -> None:
    for tensor in tensors:
        if tensor.dtype != torch.float32 or not tensor.is_contiguous() or not tensor.is_cuda:
            raise ValueError(f"{name}: expected contiguous float32 CUDA tensors, got {tensor.dtype}, strides {tensor.stride()}")
    function = getattr(build(), name)
    function.restype = ctypes.c_int
    arguments = [ctypes.c_int(n) for n in shape] + [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    status = function(*arguments, ctypes.c_void_p(torch.cuda.current_stream().cuda_stream))
    if status:
        raise RuntimeError(f"{name}: CUDA error {status}")


class _Wkv7(torch.autograd.Function):
    @staticmethod
    def forward(ctx, r, w, k, v, a, b):
        B, T, H, N = r.shape
        if N != HEAD_SIZE or T % CHUNK:
            raise ValueError(f"wkv7: expected head size {HEAD_SIZE} and a length divisible by {CHUNK}, got {N} and {T}")
        inputs = [x.contiguous() for x in (r, w, k, v, a, b)]
        y, sa = torch.empty_like(inputs[0]), torch.empty_like(inputs[0])
        checkpoints = torch.empty(B, H, T // CHUNK, N, N, device=r.device)
        _launch("wkv7_forward_launch", (B, T, H), [*inputs, y, sa, checkpoints])
        ctx.save_for_backward(*inputs, sa, checkpoints)
        return y

    @staticmethod
    def backward(ctx, dy):
        saved = list(ctx.saved_tensors)
        B, T, H, _ = dy.shape
        gradients = [torch.empty_like(saved[0]) for _ in range(6)]       # r, w, k, v, a, b
        _launch("wkv7_backward_launch", (B, T, H), [*saved, dy.contiguous(), *gradients])
        return tuple(gradients)


@torch.compiler.disable
def wkv7(r, w, k, v, a, b):
    """``y`` [B, T, H, 64] for float32 inputs of that shape; ``w`` is the decay itself (0.545..1), ``a`` = -kk, ``b`` = kk * iclr."""
    return _Wkv7.apply(r, w, k, v, a, b)


def wkv7_reference(r, w, k, v, a, b):
    """The same, token by token in plain torch operations: slow, for the check."""
    B, T, H, N = r.shape
    S = r.new_zeros(B, H, N, N)
    out = []
    for t in range(T):
        sa = (S @ a[:, t].unsqueeze(-1))
        S = S * w[:, t].unsqueeze(-2) + sa @ b[:, t].unsqueeze(-2) + v[:, t].unsqueeze(-1) @ k[:, t].unsqueeze(-2)
        out.append((S @ r[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(out, 1)


def check() -> dict[str, float]:
    """Relative errors of output and gradients against float64 autograd of the reference. Raises above 1e-4."""
    generator = torch.Generator().manual_seed(1)
    B, T, H, N = 2, 48, 3, HEAD_SIZE
    draw = lambda: torch.randn(B, T, H, N, generator=generator, dtype=torch.float64)
    kk = torch.nn.functional.normalize(draw(), dim=-1)
    values = [draw(), torch.exp(-0.606531 * torch.sigmoid(draw())), draw(), draw(), -kk, kk * torch.sigmoid(draw())]
    exact = [x.clone().requires_grad_() for x in values]
    fast = [x.float().cuda().requires_grad_() for x in values]
    weight = draw()
    expected, got = wkv7_reference(*exact), wkv7(*fast)
    (expected * weight).sum().backward()
    (got * weight.float().cuda()).sum().backward()
    pairs = {"y": (got.detach(), expected.detach())} | {"d" + n: (f.grad, e.grad) for n, f, e in zip("rwkvab", fast, exact)}
    errors = {n: float((g.double().cpu() - e).norm() / e.norm()) for n, (g, e) in pairs.items()}
    bad = {n: e for n, e in errors.items() if not e < 1e-4}
    if bad:
        raise RuntimeError(f"wkv7: kernel and autograd disagree: {bad}")
    return errors
