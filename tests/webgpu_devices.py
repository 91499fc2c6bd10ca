"""The software GPUs that the WebGPU backend is tested on: lavapipe (Mesa) and SwiftShader (Debian's chromium-common).

Importing this before Dawn is first used makes both visible to the Vulkan loader, unless VK_DRIVER_FILES is set already.
In CI a missing one is a failure; elsewhere its tests are skipped, saying why.
"""

from __future__ import annotations

import glob
import os

import pytest

_ICDS = {
    "llvmpipe": sorted(glob.glob("/usr/share/vulkan/icd.d/lvp_icd*.json")),
    "SwiftShader": [p for p in (os.environ.get("RWKVNATIVE_SWIFTSHADER_ICD", ""), "/usr/lib/chromium/vk_swiftshader_icd.json")
                    if p and os.path.exists(p)][:1],
}
if "VK_DRIVER_FILES" not in os.environ and any(_ICDS.values()):
    os.environ["VK_DRIVER_FILES"] = os.pathsep.join(path for paths in _ICDS.values() for path in paths)

# lavapipe compiles each kernel with LLVM; without its optimizer that takes half as long, and these models are tiny.
os.environ.setdefault("GALLIVM_PERF", "nopt")

SOFTWARE = tuple(_ICDS)
_HOW = {"llvmpipe": "mesa-vulkan-drivers of Mesa 25 or newer (Debian: bookworm-backports)",
        "SwiftShader": "chromium-common, or RWKVNATIVE_SWIFTSHADER_ICD naming its vk_swiftshader_icd.json"}


def require(name: str) -> str:
    """The device id of a software GPU by its name; skips the test, or in CI fails it, where there is none."""
    from rwkvnative import _core

    names = [d["name"] for d in _core.devices() if d["backend"] == "webgpu"]
    if not any(name.lower() in n.lower() for n in names):
        reason = f"no {name} among the adapters {names} ({_core.webgpu_unavailable()}); it comes with {_HOW[name]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return f"webgpu:{name}"
