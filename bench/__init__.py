"""Side-by-side measurements against what a user would pick instead."""

# Its fast BLAS must be loaded before mlx is, by whichever bench; rivals get it too.
import mondrian_core.models  # noqa: F401
