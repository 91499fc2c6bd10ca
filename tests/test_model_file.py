"""The model file under a running model: cut short or written to, and kept out of memory as far as a budget says.

In processes of their own: what must not happen is that the process dies of SIGBUS.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import webgpu_devices
from engines import random_tokens
from synthetic import make_model

from rwkvnative import Model
from rwkvnative.errors import FileError, InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not let a mapped file be changed")

# 9.5 MB: a layer is 1.1 MB.
OPTIONS = dict(n_embd=256, n_layer=8, n_vocab=600, type="Q8_0", seed=41)

RUN = """
import sys, threading, time
import numpy as np
import webgpu_devices
from rwkvnative import Model
from rwkvnative.errors import FileError

path, device, budget, what = sys.argv[1], sys.argv[2], int(sys.argv[3]) or None, sys.argv[4]
model = Model(path, device, max_device_memory=budget)
tokens = np.array([1], np.int32)
many = np.arange(40, dtype=np.int32) if device == "cpu" else tokens  # fewer kernels to compile
_, state = model.forward(tokens)

def damage():
    if what == "write":
        with open(path, "r+b") as file:
            file.seek(-1, 2)
            file.write(b"?")
    else:
        with open(path, "r+b") as file:
            file.truncate(20000)

if what == "cut-while-running":
    threading.Timer(0.2, damage).start()
else:
    damage()
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        model.forward(many, state)
    except FileError as error:
        print(error)
        break
try:
    model.forward(tokens, state)  # and not again
except FileError:
    print("still dead")
"""


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "model.gguf"
    make_model(file, **OPTIONS)
    return file


def least_budget(path: Path, device: str) -> int:
    with pytest.raises(InputError, match="at least") as error:
        Model(path, device, max_device_memory=1)
    return int(re.search(r"at least (\d+)", str(error.value))[1])


@pytest.mark.parametrize("where, what", [("cpu", "cut"), ("cpu", "cut-while-running"), ("cpu", "write"), ("llvmpipe", "cut"),
                                          ("llvmpipe", "write")])
def test_a_file_that_changes_is_an_error(path, where, what, monkeypatch):
    budget, device = 0, "cpu"
    if where != "cpu":
        monkeypatch.setenv("RWKVNATIVE_WEBGPU_HOST_CACHE", "4096")  # what streams is read from the file each time
        device = webgpu_devices.require(where)
        budget = least_budget(path, device)
    environment = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run([sys.executable, "-c", RUN, str(path), device, str(budget), what], capture_output=True, text=True,
                          env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout and done.stdout.endswith("still dead\n")
    assert ("written to" if what == "write" else "got 20000: the file was changed") in done.stdout


KEPT = """
import sys
import numpy as np
import webgpu_devices
from rwkvnative import Model

path, device, budget = sys.argv[1], sys.argv[2], int(sys.argv[3])
model = Model(path, device, max_device_memory=budget)
assert model.info["streamed_bytes"] > 0
tokens = np.array([1, 7, 599], np.int32)
before, _ = model.forward(tokens)
with open(path, "r+b") as file:
    file.truncate(20000)
after, _ = model.forward(tokens)
print("same" if np.array_equal(before, after) else "other")
"""


@pytest.mark.parametrize("where", ["cpu", "llvmpipe"])
def test_a_state_is_not_saved_as_another_models(tmp_path, where):
    """The fingerprint is read from the file when it is first asked for: not from what is there then."""
    make_model(tmp_path / "m.gguf", n_layer=1, n_vocab=300)
    with Model(tmp_path / "m.gguf", where if where == "cpu" else webgpu_devices.require(where)) as model:
        state = model.new_state()
        os.truncate(tmp_path / "m.gguf", 20000)
        with pytest.raises(FileError, match="got 20000: the file was changed while the model was in use"):
            state.save(tmp_path / "s")
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_what_the_host_keeps_packed_does_not_need_the_file(path):
    device = webgpu_devices.require("llvmpipe")
    done = subprocess.run([sys.executable, "-c", KEPT, str(path), device, str(least_budget(path, device))], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.path.dirname(__file__)}, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "same\n"


def test_a_resident_model_needs_no_file(path):
    """All of it is on the device: the file may go."""
    with Model(path, webgpu_devices.require("llvmpipe")) as model:
        expected, _ = model.forward([1])
        os.truncate(path, 20000)
        again, _ = model.forward([1])
    assert np.array_equal(again, expected)


def resident_pages(path: Path) -> int:
    """Bytes of the file's mapping that are in this process's memory."""
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="counts pages with Linux's /proc/self/smaps")
def test_pages_on_the_cpu_stay_within_the_budget(path):
    tokens = random_tokens(20, 600, seed=42)
    with Model(path, "cpu", 2) as usual:
        expected, _ = usual.forward(tokens)
        assert usual.info["max_device_memory"] == usual.info["streamed_bytes"] == 0
        weights = usual.info["weight_bytes"]
        whole = resident_pages(path)
    least = least_budget(path, "cpu")
    assert least < weights / 2 < whole
    streamed = []
    for budget in (least, (least + weights) // 2, 2 * weights):
        with Model(path, "cpu", 2, max_device_memory=budget) as model:
            state = None
            for _ in range(3):
                logits, state = model.forward(tokens)
                # The system maps up to 16 neighbouring pages with the one that is read, of small tensors and of others' edges.
                assert resident_pages(path) <= budget + (400 << 10)
            assert np.array_equal(logits, expected)
            info = model.info
            assert info["max_device_memory"] == budget
            streamed.append(info["streamed_bytes"])
            assert info["resident_layers"] <= info["layers"] == 9
    assert streamed[0] > streamed[1] > streamed[2] == 0
