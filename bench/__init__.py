"""Benchmarks against the tools that a user would choose instead."""

# Loads the fast BLAS before mlx, for every benchmark and its baseline.
import mondrian_core.models  # noqa: F401
