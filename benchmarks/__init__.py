"""Throughput, latency and CPU beside bare Celery, in one run on one machine. `make bench`; docs/benchmarks.md."""
