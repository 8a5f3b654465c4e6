"""One loaded base at a time, with an adapter, a photograph and a question; the tests of a base run together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

import mondrian_core.models  # noqa: F401  (before mlx)
from mondrian_core.models.base_model import BaseVLM, load_base
from tests.models.conftest import make_adapter, photograph
from tests.realsize.matrix_shapes import MATRIX_SHAPES, PRODUCT_SHAPES, SUITE_SHAPES
from tests.skeleton_bases import SkeletonShape, skeleton_folder

PRODUCT_FILE = "test_matrix_product.py"


def _row(shape: SkeletonShape) -> Any:
    marks = () if shape in SUITE_SHAPES else pytest.mark.soak
    return pytest.param(shape, id=shape.name, marks=marks)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The product's half of the matrix has the mark `soak` on the bases that only the model's half differs by."""
    for item in items:
        shape = item.callspec.params.get("shape") if hasattr(item, "callspec") else None
        if item.path.name == PRODUCT_FILE and shape in SUITE_SHAPES and shape not in PRODUCT_SHAPES:
            item.add_marker(pytest.mark.soak)


@pytest.fixture(scope="session", params=[_row(shape) for shape in MATRIX_SHAPES])
def shape(request: pytest.FixtureRequest) -> SkeletonShape:
    """The base of this row of the matrix."""
    found: SkeletonShape = request.param
    return found


@pytest.fixture(scope="session")
def folder(shape: SkeletonShape) -> Path:
    """Its checkpoint."""
    return skeleton_folder(shape)


@pytest.fixture(scope="session")
def real_base(folder: Path) -> Iterator[BaseVLM]:
    """The loaded base."""
    yield load_base(str(folder))
    mx.clear_cache()


@pytest.fixture
def base(real_base: BaseVLM) -> Iterator[BaseVLM]:
    """The loaded base without an adapter."""
    _use_no_adapter(real_base)
    yield real_base
    _use_no_adapter(real_base)


def _use_no_adapter(base: BaseVLM) -> None:
    if base.cache.get("mounted") is not None:
        base.cache["mounted"].use(None)


@pytest.fixture(scope="session")
def real_adapter(real_base: BaseVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes the answers."""
    return make_adapter(real_base, tmp_path_factory.mktemp("adapter"), size=0.3, rank=4)


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A small photograph, not square."""
    return photograph(1, (224, 160))


@pytest.fixture(scope="session")
def asked() -> list[dict[str, Any]]:
    """System and user message, short: most of what a test on packed weights costs is reading the question."""
    question = [{"type": "text", "text": "Critique the photograph."}, {"type": "image"}]
    return [
        {"role": "system", "content": [{"type": "text", "text": "You are Ansel Adams."}]},
        {"role": "user", "content": question},
    ]
