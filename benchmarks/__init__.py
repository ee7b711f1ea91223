"""Benchmarks: each prints its figure beside a baseline of the same run."""
