"""The engine on the software device (emulated/), each part in a process of its own, in several modes.

Kernels run unmodified, compiled by msl/; csrc/metal is compiled by clang against GNUstep (build.py).
"""

from __future__ import annotations

import pytest
from background import parameters
from emulated import jobs

JOBS = {
    "four schedules": jobs.four_schedules,
    "every access checked": jobs.every_access_checked,
    "the package's parity tests": lambda: jobs.parity(0),
    "the package's parity tests, second half": lambda: jobs.parity(1),
    "the embedded model": lambda: jobs.emulated("model.py"),
    "the embedded model on a thread": lambda: jobs.emulated("model.py", timing="thread", workers="2"),
    "streaming": lambda: jobs.emulated("streaming.py"),
    "streaming, every access checked": lambda: jobs.emulated("streaming.py", "-k", "profile", check="1"),
    "streaming on a thread": lambda: jobs.emulated("streaming.py", "-k", "same_bits or errors", timing="thread", sampling="none"),
    "streaming on a small device": lambda: jobs.emulated("streaming.py", "-k", "a_model", working_set="8000000"),
    "kernels compiled before": lambda: jobs.emulated("compiled.py"),
    "selftest": jobs.selftest,
    "faults": lambda: jobs.emulated("faults.py"),
    "faults on a thread": lambda: jobs.emulated("faults.py", timing="thread"),
    "faults on an Intel GPU": lambda: jobs.emulated("faults.py", device="intel"),
    "faults without a GPU": lambda: jobs.emulated("faults.py", device="none"),
    "faults on macOS 12": lambda: jobs.emulated("faults.py", device="macos 12"),
    "a GPU that is listed only": lambda: jobs.emulated("faults.py", "-k", "test_command_buffer_errors", device="ssh"),
}


@pytest.mark.parametrize("job", parameters(JOBS))
def test_engine(background, job):
    background.result(job)
