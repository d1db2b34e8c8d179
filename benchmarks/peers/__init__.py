"""The benchmark beside other systems of the same kind. `make bench-peers`; docs/benchmarks.md."""
