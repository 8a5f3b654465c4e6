"""Every branch that only a Mac takes is listed, with something that covers it."""

from __future__ import annotations

import ast
import re

import pytest

from mondrian_core.selftest.steps import STEPS_BY_NAME
from tests.architecture.metal_branches import METAL_BRANCHES, branches_of, found_branches, product_files
from tests.git_files import ROOT


def test_every_branch_for_metal_is_listed_and_nothing_else() -> None:
    found = found_branches(product_files())
    listed = [branch.place for branch in METAL_BRANCHES]
    missing = {place: lines for place, lines in found.items() if place not in listed}
    assert missing == {}, "add them to tests/architecture/metal_branches.py, with a test that covers each"
    assert sorted(listed) == sorted(found), "these places are gone, or are listed twice"


def test_every_branch_is_covered_by_tests_and_steps_that_exist() -> None:
    for branch in METAL_BRANCHES:
        assert branch.tests or branch.steps, branch.place
        assert set(branch.steps) <= set(STEPS_BY_NAME), branch.place
        for test in branch.tests:
            file, _, name = test.partition("::")
            assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), test


@pytest.mark.parametrize(
    "line",
    [
        "if mx.metal.is_available(): pass",
        "on_gpu = mx.default_device() == mx.Device(mx.gpu)",
        "if sys.platform == 'darwin': pass",
        "if platform.system() != 'Linux': pass",
        "match platform.system():\n        case _: pass",
        "return EagerDecoder() if family.has_fused_rotary(model) else CompiledDecoder()",
        "base = LARGE if on_apple_silicon() else MINI",
        "subprocess.run(['launchctl', 'list'])",
        "mx.set_wired_limit(limit)",
    ],
)
def test_a_planted_branch_is_found(line: str) -> None:
    tree = ast.parse(f"class Engine:\n  def start():\n    {line}\n")
    assert {place for place, _ in branches_of(tree)} == {"Engine.start"}


def test_facts_of_a_machine_are_not_branches() -> None:
    assert list(branches_of(ast.parse("facts = {'system': platform.system(), 'machine': platform.machine()}"))) == []
