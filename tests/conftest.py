"""Fixtures and settings of all tests: an isolated environment, default marks, and a legacy workspace."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

# The workers of pytest-xdist use every core already; more BLAS threads wait for each other. Read when a BLAS is loaded.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
from hypothesis import settings

import mondrian_core.models  # noqa: F401  (its fast BLAS must be there before any test module brings mlx)
from tests.hub_server import HubServer, checkpoint_files
from tests.legacy_workspace import make_legacy_workspace
from tests.record_slow_tests import function_of, read_slow_tests
from tests.skeleton_bases import SkeletonShape

# machines are shared, so the duration of an example means nothing
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parent.parent
# folders and files; those that wait for most of their time are first, so that the processors are busy meanwhile
LONGEST = ("flows", "docs", "test_pages.py", "realsize", "loop", "training", "models")
MEASURED_CASES = 2  # of a slow test, by coverage
TEST_MARKS = {"mini", "flow", "browser", "realsize"}
HIDDEN_ENVIRONMENT_PREFIXES = ("MONDRIAN_", "PREFECT_", "ANALYSIS_MODE", "EMBEDDINGS_ENABLED", "LORA_ADAPTER_DIR")


def _set_environment() -> str | None:
    """Hide this machine's settings from the tests; returns the value of MONDRIAN_SAMPLES, if it was set.

    Runs when pytest imports this file, because Prefect, datasets and matplotlib read the environment on import.
    """
    samples = os.environ.get("MONDRIAN_SAMPLES")
    for name in [name for name in os.environ if name.startswith(HIDDEN_ENVIRONMENT_PREFIXES)]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="mondrian-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        # one lock per test worker: workers must not wait for each other, or for a training on this machine
        MONDRIAN_ACCELERATOR_LOCK=f"{home}/accelerator.lock",
        MONDRIAN_CACHE=f"{home}/cache",
        PREFECT_HOME=f"{home}/prefect",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        DO_NOT_TRACK="1",
        HF_HOME=f"{home}/hf",
        HF_HUB_OFFLINE="1",
        TOKENIZERS_PARALLELISM="false",
        MPLBACKEND="Agg",
        MPLCONFIGDIR=f"{home}/matplotlib",
    )
    return samples


SAMPLES_FOLDER = _set_environment()
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a shell's background job ignores SIGINT, and the processes that tests interrupt would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without the garbage collector, and keep it from what was collected.

    The modules and tests live to the end of the process, and looking through them was two thirds of the collection.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)  # new objects, instead of 700: looking through them took a twentieth of a test's time
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that needs neither model, server nor browser is a unit test; those of slow_tests.txt are slow."""
    slow, cases = read_slow_tests(), Counter[str]()
    for item in items:
        function = function_of(item.nodeid)
        if function in slow:
            item.add_marker(pytest.mark.slow)
        if not TEST_MARKS & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.unit)
        cases[function] += 1
        if _repeats(item) or (cases[function] > MEASURED_CASES and item.get_closest_marker("slow")):
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=_position)
    if config.getoption("loadgroup", False):  # in a pytest worker
        for item in items:
            _name_group(item)


def _name_group(item: pytest.Item) -> None:
    """End the node ID with the test's group, where pytest-xdist looks for it.

    Its own mark does nothing: pytest-xdist 3.8 writes to an attribute that pytest 9.2 doesn't read any more.

    Raises:
        pytest.UsageError: the group isn't in the node ID, so that each worker would build all servers and trainings.
    """
    named = f"{item.nodeid}@{_group(item)}"
    item._id = type(item.id).parse(named)
    if item.nodeid != named:
        raise pytest.UsageError("tests/conftest.py can't name the groups of pytest-xdist with this version of pytest")


def _repeats(item: pytest.Item) -> bool:
    """True for property tests and simulations, which run the same lines hundreds of times.

    Coverage would cost a third to three quarters of their time, and other tests run these lines too. The same holds
    for what a slow test does again in its third and later cases.
    """
    return getattr(getattr(item, "obj", None), "is_hypothesis_test", False) or item.path.parent.name == "bench"


def _group(item: pytest.Item) -> str:
    """A file's tests share a pytest worker, and so does everything on the Prefect server of tests/flows/conftest.py.

    Each base of the matrix is loaded by one worker, for the tests of all files.
    """
    if item.path.parent.name == "flows" and "machine" in getattr(item, "fixturenames", ()):
        return "prefect server"
    shape = item.callspec.params.get("shape") if hasattr(item, "callspec") else None
    return shape.name if isinstance(shape, SkeletonShape) else str(item.path.relative_to(ROOT))


def _position(item: pytest.Item) -> int:
    """The longest begin first, so that no worker is left alone with one of them at the end."""
    names = (item.path.parent.name, item.path.name)
    return next((place for place, name in enumerate(LONGEST) if name in names), len(LONGEST))


@pytest.fixture(autouse=True)
def fixed_pass_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafts don't follow this machine's clock: their lengths come from guessed costs of a pass, not from its load."""
    module = sys.modules.get("mondrian_core.models.inference.ngram_draft")
    if module is not None:
        monkeypatch.setattr(module.ForwardPassCosts, "record", lambda self, tokens, seconds: None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def legacy_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated workspace of the legacy program, shared by all tests; read-only."""
    folder = tmp_path_factory.mktemp("legacy") / "workspace"
    make_legacy_workspace(folder)
    return folder


@pytest.fixture
def legacy_workspace_copy(legacy_workspace: Path, tmp_path: Path) -> Path:
    """A writable copy of the legacy workspace: ten usable critiques, sixteen unusable records."""
    return _writable_copy(legacy_workspace, tmp_path / "legacy")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[HubServer, None, None]:
    """A model hub with one repository, which this process uses, with its cache below `tmp_path`."""
    from huggingface_hub import constants

    server = HubServer(checkpoint_files())
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("MONDRIAN_CACHE", str(tmp_path / "cache"))
    yield server
    server.close()


@pytest.fixture
def real_workspace_copy(tmp_path: Path) -> Path:
    """A writable copy of a real legacy workspace, for the few tests that check its records.

    Copied from MONDRIAN_SAMPLES, or from shared/samples/mondrian next to the repository.
    """
    source = Path(SAMPLES_FOLDER) if SAMPLES_FOLDER else ROOT.parent / "shared" / "samples" / "mondrian"
    if not (source / "mondrian.db").is_file():
        pytest.skip("no sample workspace next to the repository; set MONDRIAN_SAMPLES=FOLDER")
    return _writable_copy(source, tmp_path / "real")


def _writable_copy(source: Path, copy: Path) -> Path:
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy


@pytest.fixture(scope="session")
def skeleton() -> Callable[..., Path]:
    """`skeleton(family="qwen2_vl", bits=4)`: the folder of a skeleton (tests/skeleton_bases.py); read-only."""
    from tests.skeleton_bases import skeleton_folder

    return lambda **shape: skeleton_folder(SkeletonShape(**shape))


@pytest.fixture(scope="session")
def real_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenizer of Qwen3-VL as mlx-vlm's processor has it."""
    from transformers import AutoTokenizer

    from tests.skeleton_bases import write_processor_files

    folder = tmp_path_factory.mktemp("tokenizer")
    write_processor_files("qwen3_vl", folder)
    return AutoTokenizer.from_pretrained(str(folder))
