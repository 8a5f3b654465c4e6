"""Intervals, permutation tests and sequential tests."""
