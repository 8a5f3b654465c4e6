"""Nearest photographs in an advisor's portfolio."""
