"""What every test stands on: an environment of its own, marks, and a copy of a workspace of the older program."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

import mondrian_core.models  # noqa: F401  (its fast BLAS must be there before any test module brings mlx)
from tests.older_workspace import make_older_workspace
from tests.record_slow_tests import function_of, read_slow_tests

# machines are shared: how long an example takes says nothing
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

ROOT = Path(__file__).resolve().parent.parent
KINDS = {"mini", "flow", "browser"}
OWN_SETTINGS = ("MONDRIAN_", "PREFECT_", "ANALYSIS_MODE", "EMBEDDINGS_ENABLED", "LORA_ADAPTER_DIR")


def _set_environment() -> str | None:
    """Hide this machine's settings from the tests; give back the samples folder that was asked for, if any.

    Runs when pytest reads this file, because Prefect, datasets and matplotlib look at the environment on import.
    """
    samples = os.environ.get("MONDRIAN_SAMPLES")
    for name in [name for name in os.environ if name.startswith(OWN_SETTINGS)]:
        del os.environ[name]
    home = tempfile.mkdtemp(prefix="mondrian-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ.update(
        # each worker its own, or tests in parallel would wait for one another, and for what this machine trains
        MONDRIAN_ACCELERATOR_LOCK=f"{home}/accelerator.lock",
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


ASKED_SAMPLES = _set_environment()
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # a background job of a shell ignores it, and so would the processes that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs neither model, server nor browser is a unit test; those of slow_tests.txt are slow."""
    slow = read_slow_tests()
    for item in items:
        if function_of(item.nodeid) in slow:
            item.add_marker(pytest.mark.slow)
        if not KINDS & {mark.name for mark in item.iter_markers()}:
            item.add_marker(pytest.mark.unit)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def older_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated workspace of the older program, once; read only."""
    folder = tmp_path_factory.mktemp("older") / "workspace"
    make_older_workspace(folder)
    return folder


@pytest.fixture
def samples(older_workspace: Path, tmp_path: Path) -> Path:
    """A writable copy of a workspace of the older program: ten usable critiques, sixteen records that are not."""
    return _writable_copy(older_workspace, tmp_path / "samples")


@pytest.fixture
def field_samples(tmp_path: Path) -> Path:
    """A writable copy of a real workspace of that kind, for the few tests that read its very records.

    Taken from MONDRIAN_SAMPLES, or from shared/samples/mondrian beside the repository.
    """
    source = Path(ASKED_SAMPLES) if ASKED_SAMPLES else ROOT.parent / "shared" / "samples" / "mondrian"
    if not (source / "mondrian.db").is_file():
        pytest.skip("no sample workspace beside the repository; MONDRIAN_SAMPLES=FOLDER names one")
    return _writable_copy(source, tmp_path / "field-samples")


def _writable_copy(source: Path, copy: Path) -> Path:
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copy
