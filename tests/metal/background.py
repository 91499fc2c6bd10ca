"""Long jobs of this folder's tests, two processes at a time, under way from the session's first test on.

A test that waits for one is marked with it, @waits_for(job), and asks for background.result(job). A job is a function without
arguments; it may use the package that build.package() makes. Only jobs of chosen tests run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import build
import pytest

Job = Callable[[], object]


def waits_for(job: Job) -> pytest.MarkDecorator:
    return pytest.mark.background.with_args(job)


def parameters(jobs: Mapping[str, Job]) -> list[object]:
    """For pytest.mark.parametrize: each job, called by its name."""
    return [pytest.param(job, id=name, marks=waits_for(job)) for name, job in jobs.items()]


class Background:
    def __init__(self, items: list[pytest.Item]) -> None:
        self._pool = ThreadPoolExecutor(2)
        self._running: dict[Job, Future[object]] = {}
        self._built: Future[object] | None = None
        if "PYTEST_XDIST_WORKER" not in os.environ:  # there each worker runs some of the tests only
            for item in items:
                for mark in item.iter_markers("background"):
                    self._submit(mark.args[0])

    def _submit(self, job: Job) -> Future[object]:
        if self._built is None:
            self._built = self._pool.submit(build.package)  # uses both processors; the jobs wait for it
        if job not in self._running:
            built = self._built
            self._running[job] = self._pool.submit(lambda: (built.result(), job())[1])
        return self._running[job]

    def result(self, job: Job) -> object:
        """What it returns; raises what it raises."""
        return self._submit(job).result()

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)
