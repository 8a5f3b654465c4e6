"""A fast BLAS for MLX's CPU back-end.

`mlx-cpu` on Linux links the reference BLAS (about 8 GFLOP/s). An OpenBLAS that is loaded with global symbols before mlx
is imported replaces it and is 12 to 20 times faster in float32. mlx-vlm needs opencv, whose wheel contains an OpenBLAS,
so one is nearly always available.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def preload_openblas() -> Path | None:
    """Load an OpenBLAS and return its file; None if there is none, it isn't needed, or mlx is already imported."""
    if platform.system() != "Linux" or "mlx.core" in sys.modules:
        return None
    for library in _candidates():
        try:
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return library
    return None


@contextmanager
def single_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread, for work that keeps the cores busy itself; no effect without OpenBLAS."""
    library = _loaded()
    if library is None:
        yield
        return
    before = library.openblas_get_num_threads()
    library.openblas_set_num_threads(1)
    try:
        yield
    finally:
        library.openblas_set_num_threads(before)


def _loaded() -> ctypes.CDLL | None:
    """The OpenBLAS that this process has already loaded; RTLD_NOLOAD finds it without loading another."""
    if platform.system() != "Linux":
        return None
    for path in _candidates():
        try:
            library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL | os.RTLD_NOLOAD)
        except OSError:
            continue
        if hasattr(library, "openblas_set_num_threads"):
            return library
    return None


def _candidates() -> list[Path]:
    found: list[Path] = []
    opencv = importlib.util.find_spec("cv2")
    if opencv is not None and opencv.origin is not None:
        packages = Path(opencv.origin).parent.parent
        found += sorted(packages.glob("opencv_python*.libs/libopenblas*.so*"))
    system = ctypes.util.find_library("openblas")
    if system is not None:
        found.append(Path(system))
    return found
