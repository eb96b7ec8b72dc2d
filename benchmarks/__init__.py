"""Measurements: each is ``python -m benchmarks.bench_<what>`` and prints ratios."""
