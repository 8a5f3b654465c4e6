"""The report holds nothing private, and the page what is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.selftest_figures import PAGE, selftest_page
from mondrian_core.selftest.comparison import compare_speed, compare_with_published
from mondrian_core.selftest.published import entries_of_report, published_speed, published_table, read_published
from mondrian_core.selftest.report import PrivateWords, SelfTestReport, public_base_name
from mondrian_core.selftest.steps import StepCause, StepResult, StepStatus
from mondrian_core.selftest.tolerances import allowed_difference


def result(step: str = "logits", **values: object) -> StepResult:
    facts = {"base": "mini", "stream": "CPU", "step": step, "status": StepStatus.OK, "finding": "fine"}
    return StepResult(**{**facts, **values})


def test_private_words_are_hidden_wherever_they_are_in_a_word() -> None:
    private = PrivateWords(["/Users/zephyrine/darkroom", "quokka-workspace"], {"TOKEN": "s3cr3t-value", "A": "xy"})
    text = "can't open /a/b of ZEPHYRINE (quokka-workspace.db): s3cr3t-value, id@example.org, 12 bytes of xylophone"
    assert private.remove(text) == "can't open … of … … … … 12 bytes of xylophone"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mini", True),
        ("mlx-community/Qwen3-VL-4B-Instruct-4bit", True),
        ("zephyrine/my-base", False),
        ("/Users/zephyrine/base", False),
        ("~/Qwen/base", False),
    ],
)
def test_only_public_bases_are_named(name: str, shown: bool) -> None:
    assert (public_base_name(name) == name) is shown


def test_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert selftest_page(text, read_published()) == text, "run: python -m bench.selftest_figures"


def test_a_page_without_a_mac_says_so() -> None:
    (entry, *_) = read_published()
    assert "No Mac has been measured yet" in published_table([entry])
    mac = {**entry, "stream": "GPU", "macos": "26.1", "device": "Apple M4"}
    assert "No Mac has been measured yet" not in published_table([entry, mac])


def test_published_results_of_mini_belong_to_the_bundled_weights() -> None:
    from mondrian_core.models.base_model import base_fingerprint

    assert {entry["fingerprint"] for entry in read_published() if entry["base"] == "mini"} == {base_fingerprint("mini")}


def test_results_that_differ_from_published_ones_are_off() -> None:
    (entry, *_) = [each for each in read_published() if each["base"] == "mini"]
    facts = {"layers": entry["load"]["layers"], "width": entry["load"]["width"]}
    same = result(figures=entry["logits"])
    assert compare_with_published(same, entry["logits"], **facts).status is StepStatus.OK
    wrong = [*entry["logits"]["sampled_logits"]]
    wrong[3] += 0.01
    off = compare_with_published(result(figures={**entry["logits"], "sampled_logits": wrong}), entry["logits"], **facts)
    assert (off.status, off.cause, off.stream) == (StepStatus.OFF, StepCause.WRONG_RESULT, "CPU and published")
    trained = {**entry["training_step"], "gradient_norm": entry["training_step"]["gradient_norm"] * 1.01}
    assert (
        compare_with_published(result("training_step", figures=trained), entry["training_step"], **facts).status
        is StepStatus.OFF
    )


def test_a_device_far_below_its_published_speed_is_off() -> None:
    (entry, *_) = [each for each in read_published() if each["base"] == "mini"]
    speed = published_speed(read_published(), entry["fingerprint"], "CPU", entry["device"])
    assert speed is not None
    assert published_speed(read_published(), entry["fingerprint"], "CPU", "another device") is None
    slow = {**speed, "training_step_cpu_seconds": 3.5 * speed["training_step_cpu_seconds"]}
    assert compare_speed(result("speed", figures=speed), speed).status is StepStatus.OK
    found = compare_speed(result("speed", figures=slow), speed)
    assert (found.status, found.cause) == (StepStatus.OFF, StepCause.SLOW)
    idle, busy = (compare_speed(result("speed", figures={**slow, "other_load": share}), speed) for share in (0.2, 0.6))
    assert idle.status is StepStatus.OFF
    assert (busy.status, busy.cause) == (StepStatus.SKIPPED, None) and "60% of the processors" in busy.finding


def test_rounding_of_bfloat16_is_allowed_more_than_that_of_float32() -> None:
    shape = {"layers": 36, "width": 9728}
    on_cpu, on_gpu = (allowed_difference("float32", stream, **shape) for stream in ("CPU", "GPU"))
    packed = allowed_difference("bfloat16", "GPU", **shape)
    assert on_cpu < on_gpu < packed < 0.2
    assert allowed_difference("bfloat16", "GPU", **shape, backward=True) > packed


def test_a_report_with_something_off_is_not_published(tmp_path: Path) -> None:
    off = result(status=StepStatus.OFF, cause=StepCause.WRONG_RESULT)
    document = SelfTestReport(results=[off], bases={"mini": "mini"}, seconds=1.0).as_dict(PrivateWords([]))
    assert (document["verdict"], json.loads(json.dumps(document))["schema_version"]) == ("off", 1)
    with pytest.raises(ValueError, match="verdict"):
        entries_of_report(document)
