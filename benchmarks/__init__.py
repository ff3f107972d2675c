"""One script per number to reach; `python -m benchmarks` runs them all."""
