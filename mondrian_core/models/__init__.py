"""The one place that speaks MLX to the rest of the house: base, adapters, features, generation.

Importing this package loads a fast BLAS where the CPU needs one; that must happen before mlx is imported.
"""

from mondrian_core.models import cpu_blas

cpu_blas.preload_openblas()
