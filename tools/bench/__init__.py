"""The benchmarks: every goal beside its peers, in one run. ``python -m tools.bench --help``."""
