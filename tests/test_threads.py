"""Several threads on one model, callbacks that ask for more, children of fork(), and systems without threads to give. What goes wrong
here is mostly waiting for ever: each case runs in a process of its own, under a clock."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import webgpu_devices

BEGIN = """
import os, sys, threading, time
import numpy as np
from engines import open_engine, tokens_of
from synthetic import build_model
from rwkvnative import _core
from rwkvnative.errors import DeviceError, InputError
model = build_model(n_embd=32, head_size=16, n_layer=1, n_ff=64, n_vocab=40, ranks=(4, 4, 4, 8))
"""


def in_new_process(code: str, seconds: float = 300) -> str:
    done = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=os.path.dirname(__file__), capture_output=True, text=True,
                          timeout=seconds)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def test_states_are_made_while_another_thread_reads_a_prompt():
    """Between two chunks the reading thread asks for the GIL, and the other one for the engine."""
    out = in_new_process("""
engine = open_engine(model)
prompt = tokens_of([5] * 6000)
made = 0
while made == 0:  # under load a reader may be done before this thread gets to run
    reader = threading.Thread(target=lambda: engine.forward(prompt, None, engine.new_state(), "last"))
    reader.start()
    while reader.is_alive():
        engine.new_state()
        made += 1
print(made > 0)
""")
    assert out == "True"


def test_devices_are_listed_while_another_thread_loads_dawn():
    webgpu_devices.require("llvmpipe")
    out = in_new_process("""
import webgpu_devices
import rwkvnative.dawn
find, loading = rwkvnative.dawn.addresses, threading.Event()
def addresses():
    loading.set()
    time.sleep(0.5)  # without the GIL: the other thread asks for Dawn in the meantime
    return find()
rwkvnative.dawn.addresses = addresses
opener = threading.Thread(target=lambda: open_engine(model, "webgpu:llvmpipe"))
opener.start()
loading.wait()
print(len(_core.devices()) > 1)
opener.join()
""")
    assert out == "True"


def test_devices_are_listed_by_several_threads_at_once():
    """Each of them finds all. (Dawn itself gives some of them nothing.)"""
    webgpu_devices.require("llvmpipe")
    out = in_new_process("""
import webgpu_devices
start, found = threading.Barrier(4), []
def ask():
    start.wait()
    found.append((len(_core.devices()), _core.webgpu_unavailable()))
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(set(found)), found[0][0] > 1, found[0][1] == "")
""")
    assert out == "1 True True"


def test_a_callback_cannot_run_the_model_that_calls_it():
    """It would wait for itself; and afterwards the model goes on."""
    out = in_new_process("""
engine, other = open_engine(model), open_engine(model)
def run_again(*_):
    engine.forward(tokens_of([1]), None, engine.new_state(), "last")
def run_other(*_):
    other.forward(tokens_of([1]), None, other.new_state(), "last")
    return True
state = engine.new_state()
for use in (lambda progress: engine.forward(tokens_of([5] * 300), None, state, "last", progress),
            lambda progress: engine.greedy(3, state, 4, tokens_of([]), progress)):
    try:
        use(run_again)
    except InputError as error:
        print("callback" in str(error))
    use(run_other)
""")
    assert out.split() == ["True", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.parametrize("loaded_on", ["cpu", "webgpu:llvmpipe"])
def test_a_child_of_fork_is_told_to_load_its_own(loaded_on):
    """All of a model's calls, and those of its states, say so; the child ends as any process does; the parent goes on."""
    if loaded_on != "cpu":
        webgpu_devices.require("llvmpipe")
    out = in_new_process(f"""
import webgpu_devices
engine = open_engine(model, {loaded_on!r}, n_threads=3)
state = engine.new_state()
before = engine.forward(tokens_of([3]), None, state, "last")
child = os.fork()
if child == 0:
    told = 0
    for use in (engine.new_state, state.copy, state.read, lambda: state.write(dict()), engine.ceilings, lambda: engine.set_tuning(""),
                lambda: engine.forward(tokens_of([3]), None, state, "last"), lambda: engine.greedy(3, state, 2, tokens_of([])),
                lambda: open_engine(model, {loaded_on!r}) if {loaded_on!r} != "cpu" else engine.new_state()):
        try:
            use()
        except DeviceError as error:
            told += "forked" in str(error) and "spawn" in str(error)
        except InputError:
            pass
    own = open_engine(model)
    right = np.array_equal(own.forward(tokens_of([3]), None, own.new_state(), "last"), before) or {loaded_on!r} != "cpu"
    sys.exit(10 + told if right else 1)
_, status = os.waitpid(child, 0)
after = engine.forward(tokens_of([3]), None, engine.new_state(), "last")
print(os.waitstatus_to_exitcode(status), np.array_equal(before, after))
""")
    assert out == "18 True"


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS makes threads scarce on Linux")
def test_a_system_without_so_many_threads():
    out = in_new_process("""
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + (400 << 20),) * 2)  # stacks are 8 MiB
try:
    open_engine(model, n_threads=1024)
except DeviceError as error:
    print(error)
open_engine(model, n_threads=2).new_state()
weights = np.zeros((64, 1 << 16), np.float32)
print(len(_core.quantize(weights, 8, None, n_threads=1024)) == weights.size // 32 * 34)
""")
    assert "threads" in out and "wanted 1023" in out and "n_threads" in out, out
    assert out.endswith("True")


@pytest.mark.parametrize("loaded_on", ["cpu", "webgpu:llvmpipe"])
@pytest.mark.parametrize("use", ["greedy(3, state, 10**9, tokens_of([]), going)", "greedy(3, state, 10**9, tokens_of([]))",
                                 'forward(tokens_of([5] * 3_000_000), None, state, "last", going)'],
                         ids=["callback", "tokens", "prompt"])
def test_python_ends_while_a_daemon_thread_runs_a_model(loaded_on, use):
    """The thread is ended between two tokens or chunks, and the process as always."""
    if loaded_on != "cpu":
        webgpu_devices.require("llvmpipe")
    out = in_new_process(f"""
import webgpu_devices
engine = open_engine(model, {loaded_on!r})
state, begun = engine.new_state(), threading.Event()
def going(*_):
    begun.set()
    return True
def work():
    engine.greedy(3, state, 2, tokens_of([]), going)
    engine.{use}
threading.Thread(target=work, daemon=True).start()
begun.wait()
time.sleep(0.2)
print("ends")
""")
    assert out == "ends"
