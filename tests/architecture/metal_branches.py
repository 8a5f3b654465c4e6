"""Every branch of the code that only a Mac takes, and what covers it; docs/reference/metal.md is made from it.

A branch asks for Metal, the GPU, the system, or a kernel that only Metal has. It is covered by a test that runs it on
another machine, or by a step of the self-test, which a user runs on a Mac.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mondrian_core.selftest.steps import STEPS_BY_NAME
from tests.git_files import ROOT, tracked_files

PACKAGES = ("mondrian", "mondrian_core", "tasks", "flows", "deployments")
PAGE = Path("docs") / "reference" / "metal.md"
# mlx.core: attributes that ask for a device. `mx.metal` counts wherever it is used.
DEVICE_ATTRIBUTES = {"metal", "gpu", "cpu", "default_device", "set_default_device", "is_available", "device_info"}
DEVICE_ATTRIBUTES |= {"set_wired_limit", "set_memory_limit", "set_cache_limit", "device_count"}
# names of our own, and of mlx-vlm, that differ on Metal
DEVICE_NAMES = {"on_apple_silicon", "has_fused_rotary", "fused_apply", "Launchd"}
SYSTEM_CALLS = {"system", "machine", "mac_ver"}  # of `platform`, where a branch depends on them
SYSTEM_WORDS = {"darwin", "Darwin", "Metal", "launchctl", "osascript"}


@dataclass(frozen=True)
class MetalBranch:
    """A branch.

    Attributes:
        place: module and function, such as "mondrian_core/training/memory.py machine_memory".
        differs: what is different on a Mac.
        tests: tests that run it elsewhere, as "tests/file.py::test".
        steps: steps of the self-test that run it on a Mac.
    """

    place: str
    differs: str
    tests: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()


_OF_A_MAC = "tests/models/test_metal_branches.py"
METAL_BRANCHES: tuple[MetalBranch, ...] = (
    MetalBranch(
        "mondrian_core/accelerator_lock.py",
        "lock files are in /Users/Shared, which every user of a Mac can write",
        tests=(f"{_OF_A_MAC}::test_lock_files_of_a_mac_are_in_its_shared_folder",),
    ),
    MetalBranch(
        "mondrian_core/doctor.py _machine",
        "the doctor names Apple Silicon",
        tests=("tests/core/test_settings.py::test_the_default_base_depends_on_the_machine",),
        steps=("machine",),
    ),
    MetalBranch(
        "mondrian_core/evaluation/measure/mlx_model.py MlxModel.__init__",
        "an evaluation judges seconds per photograph on Metal only",
        tests=(f"{_OF_A_MAC}::test_seconds_per_photograph_are_judged_on_metal_only",),
    ),
    MetalBranch(
        "mondrian_core/models/base_model.py device_name",
        "the GPU's name, with Metal",
        tests=(f"{_OF_A_MAC}::test_the_device_of_a_mac_is_named",),
        steps=("machine",),
    ),
    MetalBranch(
        "mondrian_core/models/base_model.py load_base",
        "weights stay in 16 bits; on a CPU they become float32",
        tests=(f"{_OF_A_MAC}::test_weights_keep_their_data_type_on_a_gpu",),
        steps=("load", "logits"),
    ),
    MetalBranch(
        "mondrian_core/models/cpu_blas.py _loaded",
        "MLX has its own BLAS on a Mac; OpenBLAS is not looked for",
        tests=(f"{_OF_A_MAC}::test_openblas_is_not_looked_for_on_a_mac",),
    ),
    MetalBranch(
        "mondrian_core/models/cpu_blas.py preload_openblas",
        "MLX has its own BLAS on a Mac; OpenBLAS is not loaded",
        tests=(f"{_OF_A_MAC}::test_openblas_is_not_looked_for_on_a_mac",),
    ),
    MetalBranch(
        "mondrian_core/models/family.py",
        "mlx-vlm rotates queries and keys in a compiled kernel",
        tests=("tests/models/test_family.py::test_family_fits_its_module_in_mlx_vlm",),
        steps=("logits",),
    ),
    MetalBranch(
        "mondrian_core/models/family.py _rotation",
        "with that kernel the layers rotate themselves",
        tests=("tests/models/test_family.py::test_family_fits_its_module_in_mlx_vlm",),
        steps=("logits",),
    ),
    MetalBranch(
        "mondrian_core/models/inference/batch_decoding.py _batch_step",
        "the pass of a batch is not compiled, because the rotary kernel is",
        tests=(f"{_OF_A_MAC}::test_a_batch_with_a_fused_rotary_kernel_is_not_compiled",),
        steps=("logits",),
    ),
    MetalBranch(
        "mondrian_core/models/inference/decoding.py make_decoder",
        "steps run on a growing cache instead of compiled on buffers of fixed size",
        tests=(
            f"{_OF_A_MAC}::test_a_fused_rotary_kernel_decodes_on_the_growing_cache",
            "tests/models/inference/test_generation.py::test_decoders_match_one_teacher_forced_pass",
            "tests/models/inference/test_speculation.py::test_speculation_works_with_mlx_vlm_cache",
        ),
        steps=("logits", "drafts", "constrained"),
    ),
    MetalBranch(
        "mondrian_core/models/lora/adapter_inspection.py _inspect_against",
        "an adapter's effect is computed on the CPU stream, next to a base on the GPU",
        tests=("tests/models/lora/test_adapter_inspection.py::test_inspection_measures_change",),
    ),
    MetalBranch(
        "mondrian_core/models/lora/adapter_inspection.py relative_output_change",
        "as above",
        tests=("tests/models/lora/test_adapter_inspection.py::test_change_is_ratio_of_norms",),
    ),
    MetalBranch(
        "mondrian_core/models/model_memory.py device_item_bytes",
        "a number takes 2 bytes; on a CPU it takes 4",
        tests=(f"{_OF_A_MAC}::test_a_number_takes_two_bytes_on_a_gpu",),
    ),
    MetalBranch(
        "mondrian_core/models/model_memory.py machine_memory",
        "the limit is Metal's recommended working set",
        tests=(f"{_OF_A_MAC}::test_memory_of_a_mac_is_metals_working_set",),
    ),
    MetalBranch(
        "mondrian_core/selftest/checks/machine_checks.py _device_name",
        "the names of both devices",
        steps=("machine",),
    ),
    MetalBranch(
        "mondrian_core/selftest/checks/machine_checks.py check_machine",
        "a product of matrices on the GPU too",
        steps=("machine",),
    ),
    MetalBranch(
        "mondrian_core/selftest/worker.py SelfTestWorker._use_stream",
        "the GPU stream",
        tests=("tests/selftest/test_planted_faults.py::test_a_planted_fault_is_named",),
        steps=("load",),
    ),
    MetalBranch(
        "mondrian_core/service_units/installation.py",
        "launchd is a Mac's supervisor",
        tests=("tests/service_units/test_unit_files.py::test_every_unit_runs_the_launcher_whatever_the_path",),
    ),
    MetalBranch(
        "mondrian_core/service_units/installation.py supervisor_of_machine",
        "launchd agents instead of systemd units",
        tests=(
            f"{_OF_A_MAC}::test_launchd_supervises_on_a_mac",
            "tests/service_units/test_unit_files.py::test_commands_of_both_supervisors",
        ),
    ),
    MetalBranch(
        "mondrian_core/service_units/launchd.py Launchd.activation",
        "commands of launchctl",
        tests=("tests/service_units/test_unit_files.py::test_commands_of_both_supervisors",),
    ),
    MetalBranch(
        "mondrian_core/service_units/launchd.py Launchd.state_command",
        "commands of launchctl",
        tests=("tests/service_units/test_unit_files.py::test_commands_of_both_supervisors",),
    ),
    MetalBranch(
        "mondrian_core/settings.py Settings.base",
        "the default base is the 4-bit Qwen3-VL-4B instead of mini",
        tests=("tests/core/test_settings.py::test_the_default_base_depends_on_the_machine",),
        steps=("load",),
    ),
    MetalBranch(
        "mondrian_core/settings.py on_apple_silicon",
        "a Mac with Apple Silicon is recognized",
        tests=(f"{_OF_A_MAC}::test_apple_silicon_is_recognized",),
    ),
    MetalBranch(
        "mondrian_core/training/gradient_step.py GradientStep.__init__",
        "a step is compiled instead of spread over threads",
        tests=(
            f"{_OF_A_MAC}::test_a_step_is_compiled_on_a_gpu",
            "tests/training/test_gradient_step.py::test_compiled_and_eager_steps_agree",
        ),
        steps=("training_step", "resume"),
    ),
    MetalBranch(
        "mondrian_core/training/gradient_step.py most_rows_at_once",
        "a step computes one row at a time",
        tests=(f"{_OF_A_MAC}::test_a_step_is_compiled_on_a_gpu",),
        steps=("training_step",),
    ),
    MetalBranch(
        "mondrian_core/training/step_probe.py _first_layers",
        "a probe of a training keeps 16 bits",
        tests=(f"{_OF_A_MAC}::test_weights_keep_their_data_type_on_a_gpu",),
    ),
    MetalBranch(
        "tasks/notify.py notification_command",
        "notifications by osascript",
        tests=("tests/flows/test_notify.py::test_apple_script_gets_the_texts_as_arguments",),
    ),
)


def found_branches(files: Sequence[Path]) -> dict[str, list[int]]:
    """Lines by place, of everything in these files that looks like a branch for Metal."""
    found: dict[str, list[int]] = {}
    for file in files:
        for name, line in branches_of(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
            found.setdefault(f"{file.as_posix()} {name}".strip(), []).append(line)
    return found


def product_files() -> list[Path]:
    """The Python files that are searched."""
    return [file for file in tracked_files() if file.parts[0] in PACKAGES and file.suffix == ".py"]


def branches_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(function or "", line) of each place in a module."""
    decisions = {
        id(node)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.Compare | ast.Match)
        for node in ast.walk(parent.subject if isinstance(parent, ast.Match) else parent)
    }
    for name, node in _with_functions(tree, ""):
        if _is_branch(node, decides=id(node) in decisions):
            yield name, node.lineno  # type: ignore[attr-defined]


def _with_functions(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        inside = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{name}.{child.name}".strip(".")
        yield inside, child
        yield from _with_functions(child, inside)


def _is_branch(node: ast.AST, *, decides: bool) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="mx"), attr=attribute):
            return attribute in DEVICE_ATTRIBUTES
        case ast.Attribute(value=ast.Name(id="platform"), attr=attribute):
            return decides and attribute in SYSTEM_CALLS
        case ast.Attribute(value=value, attr=attribute):
            return attribute in DEVICE_NAMES or (attribute == "platform" and ast.unparse(value) == "sys")
        case ast.Call(func=ast.Name(id=name)):
            return name in DEVICE_NAMES
        case ast.Constant(value=str(word)):
            return word in SYSTEM_WORDS
        case _:
            return False


_PAGE_START = """# Metal

Nothing of Mondrian was measured on Metal yet. This page lists every place of the code that does something else on a
Mac, and what covers it: a test that runs it on another machine, or a step of the
[self-test](../how-to/selftest.md), which runs on the Mac itself. It is made from
`tests/architecture/metal_branches.py`; a test finds such places, and fails for one that is not listed.

| place | what differs on a Mac | tests elsewhere | steps of the self-test |
|---|---|---|---|"""


def metal_page(branches: Sequence[MetalBranch]) -> str:
    """docs/reference/metal.md."""
    lines = [_PAGE_START]
    for branch in branches:
        path, _, function = branch.place.partition(" ")
        where = f"`{path}`" + (f" `{function}`" if function else "")
        tests = ", ".join(f"`{test}`" for test in branch.tests)
        steps = ", ".join(STEPS_BY_NAME[step].title for step in branch.steps)
        lines.append(f"| {where} | {branch.differs} | {tests} | {steps} |")
    return "\n".join(lines) + "\n"
