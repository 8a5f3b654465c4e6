"""Base models, adapters, vision features and generation: with `training`, the only packages that import MLX.

Importing this package loads a fast BLAS where the CPU needs one, which must happen before mlx is imported.
"""

from mondrian_core.models import cpu_blas

cpu_blas.preload_openblas()
