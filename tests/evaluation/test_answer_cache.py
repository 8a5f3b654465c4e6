"""A cached answer is used only where the same software would give it again."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import mondrian_core
from mondrian_core import software_identity
from mondrian_core.evaluation.measure.answer_cache import AnswerCache, question_digest
from mondrian_core.evaluation.measure.outcomes import EvaluationOutcome
from mondrian_core.photograph_model import Question
from mondrian_core.software_identity import RECORDED_PACKAGES, package_versions, software_digest

QUESTION = Question(messages=[{"role": "user", "content": "Judge it."}], image=None, temperature=0.5)
OUTCOME = EvaluationOutcome(photograph="p", arm="base", status="valid", text="{}")
CAMERA = [{"role": "user", "content": "Judge it. 35 mm, f/8."}]
OTHER_VALUES: dict[str, Any] = {
    "messages": CAMERA,  # another chat message, such as one with camera settings
    "max_tokens": 7,
    "exact_tokens": 7,
    "temperature": 0.7,
    "seed": 7,
    "constrained": False,
    "embed": True,
    "precedents": False,
    "schema": {"type": "object"},
}


@pytest.mark.parametrize("name", [each.name for each in fields(Question) if each.name not in ("image", "adapter")])
def test_each_field_of_a_question_changes_the_key(name: str) -> None:
    other = replace(QUESTION, **{name: OTHER_VALUES[name]})
    assert question_digest(other, "pixels") != question_digest(QUESTION, "pixels")
    assert question_digest(replace(other), "pixels") == question_digest(other, "pixels")


def test_greedy_answers_are_found_under_any_seed() -> None:
    greedy = replace(QUESTION, temperature=0.0)
    assert question_digest(replace(greedy, seed=9), "pixels") == question_digest(greedy, "pixels")
    assert question_digest(greedy, "other pixels") != question_digest(greedy, "pixels")


@pytest.mark.parametrize("changed", [{"base": "other"}, {"exif": True}], ids=lambda changed: next(iter(changed)))
def test_base_and_exif_switch_change_the_key(changed: dict[str, Any], tmp_path: Path) -> None:
    identity = {"base": "fingerprint", "exif": False}
    AnswerCache(tmp_path, **identity).put("adapter", "question", OUTCOME)
    assert AnswerCache(tmp_path, **identity).get("adapter", "question") == OUTCOME
    assert AnswerCache(tmp_path, **{**identity, **changed}).get("adapter", "question") is None


def with_version(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = software_identity.installed_version
    monkeypatch.setattr(software_identity, "installed_version", lambda name: "99.0" if name == package else real(name))


@pytest.mark.parametrize("package", ["mlx", "mlx-vlm", "transformers", "tokenizers", "pillow", "numpy"])
def test_another_package_version_misses(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package in package_versions()
    AnswerCache(tmp_path, "base").put("adapter", "question", OUTCOME)
    with_version(monkeypatch, package)
    assert AnswerCache(tmp_path, "base").get("adapter", "question") is None


def test_packages_that_give_no_answer_keep_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    before = software_digest()
    with_version(monkeypatch, "prefect")
    assert "prefect" in RECORDED_PACKAGES and software_digest() == before


def test_changed_code_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AnswerCache(tmp_path, "base").put("adapter", "question", OUTCOME)
    monkeypatch.setattr(software_identity, "code_digest", lambda: "a changed module")
    assert AnswerCache(tmp_path, "base").get("adapter", "question") is None


def test_code_digest_covers_every_module(tmp_path: Path) -> None:
    code = software_identity.code_digest.__wrapped__
    seen = {code(tmp_path)}
    for name, text in (("a.py", "1"), ("models/b.py", "1"), ("models/b.py", "2"), ("models/c.py", "2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        seen.add(code(tmp_path))
    assert len(seen) == 5


# Keys that name the base without the digest of all software, with the reason.
KEYS_WITHOUT_SOFTWARE = {
    "fingerprint": "it identifies the base itself",
    "_prepared": "it hashes a photograph's file, whose fingerprint is the photograph's",
    "take_look": "it names the question that a year of looks asks; no answer is stored under it",
    "training_inputs_digest": "it names the code and the packages that training uses, which are fewer",
}


def digests_of_the_base() -> dict[str, str]:
    """By name the source of every function of mondrian_core that hashes something with the base's fingerprint."""
    found = {}
    for path in Path(inspect.getfile(mondrian_core)).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if "fingerprint" in source and "sha256" in source else ():
            text = ast.get_source_segment(source, node) if isinstance(node, ast.FunctionDef) else None
            if text and "hashlib." in text and "fingerprint" in text:
                found[node.name] = text  # type: ignore[attr-defined]
    return found


def test_every_stored_result_of_a_base_is_keyed_by_the_software() -> None:
    found = digests_of_the_base()
    assert {"_key", "_key_of"} <= set(found), "the caches of vision features and of reference likelihoods"
    without = {name for name, text in found.items() if "software_digest" not in text}
    assert without == set(KEYS_WITHOUT_SOFTWARE)
