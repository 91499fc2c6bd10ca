"""Measuring: speed (`rwkvnative bench`), where the time goes (`rwkvnative profile`), and the best kernels (`rwkvnative tune`).

All of them put a device's own ceilings beside what they measure: how fast it streams memory, how long a dependent dispatch
takes, how fast it multiplies. See docs/performance.md.
"""
