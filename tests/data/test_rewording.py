"""Wordings that the base drafted: taken only past the checker, asked for once, the same on the next machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_comments, paraphrase_problems
from mondrian_core.data.dataset.builder import build_dataset, load_stored_columns
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.data.rewording import HOPELESS, Rewordings, acceptable
from mondrian_core.errors import BadInput
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS
from tests.data.stand_in import VOICE, jpeg, profile, workspace_of

SPOKEN = "The tree stands on the left; the sky is calm and the light is soft."
GOOD = "On the left the tree stands; calm is the sky and soft the light."
COMMENTS = dict.fromkeys(DIMENSIONS, SPOKEN)


class Canned:
    """Gives these answers in turn."""

    def __init__(self, *answers: str, name: str = "canned") -> None:
        self.answers, self.name, self.asked = answers, name, 0

    def reword(self, dimension: str, comment: str, seed: int) -> str:
        self.asked += 1
        return self.answers[self.asked % len(self.answers)]


@pytest.mark.parametrize(
    ("proposal", "taken"),
    [
        (GOOD, True),
        (SPOKEN, False),
        ("", False),
        (GOOD.replace("left", "right"), False),
        (GOOD.replace("soft", "harsh"), False),
        (f"Not so: {GOOD}", False),
        (f"{GOOD} Two birds.", False),
        ('{"comment": "' + GOOD + '"}', False),
        (f"{GOOD} {GOOD}", False),
        ("Something else entirely was seen by somebody.", False),
    ],
)
def test_paraphrase_acceptance_rules(proposal: str, taken: bool) -> None:
    assert acceptable(SPOKEN, proposal) is taken


def test_refused_proposals_are_replaced_by_the_rules(tmp_path: Path) -> None:
    rewordings = Rewordings(Canned(GOOD, "Nonsense."), tmp_path / "r.json")
    varied = rewordings.vary(COMMENTS, 3)
    assert varied is not None
    assert (rewordings.asked, rewordings.taken) == (8, 4)
    by_rule = paraphrase_comments(COMMENTS, 3) or COMMENTS
    assert all(varied[name] in (GOOD, by_rule[name]) for name in DIMENSIONS)
    assert all(not paraphrase_problems(SPOKEN, text) for text in varied.values())


def test_each_proposal_is_asked_for_once_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "datasets" / "r.json"
    first = Rewordings(Canned(GOOD), file)
    told = first.vary(COMMENTS, 1)
    first.save()
    again = Canned("Never asked.")
    assert Rewordings(again, file).vary(COMMENTS, 1) == told
    assert again.asked == 0
    other_base = Canned(GOOD, name="another base")
    Rewordings(other_base, file).vary(COMMENTS, 1)
    assert other_base.asked == 8
    file.write_text("[1, 2")
    with pytest.raises(BadInput, match="damaged"):
        Rewordings(again, file)


def test_incapable_base_model_is_abandoned_for_paraphrasing(tmp_path: Path) -> None:
    mumbling = Canned("mumble")
    rewordings = Rewordings(mumbling, tmp_path / "r.json")
    results = [rewordings.vary(COMMENTS, seed) for seed in range(20)]
    assert mumbling.asked == HOPELESS
    assert results == [paraphrase_comments(COMMENTS, seed) for seed in range(20)]


def test_paraphrases_are_used_in_dataset(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 0) as store:
        for number in range(6):
            (tmp_path / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
        store.add_profiles(profile(number, comments=COMMENTS) for number in range(6))
        manifest = link_critiques(store, tmp_path, "ansel")
    recipe = DataRecipe(variants=0, variations=1, wording="base")
    version = build_dataset(manifest, VOICE, recipe, tmp_path, words=Rewordings(Canned(GOOD), tmp_path / "r.json").vary)
    rows = load_stored_columns(version.path / "train")
    reworded = [json.loads(row["answer"])["dimensional_analysis"] for row in rows if row["variant"] == "original~1"]
    assert len(reworded) == version.photographs["train"]
    assert {each["lighting"]["comment"] for each in reworded} == {GOOD}
    again = build_dataset(manifest, VOICE, recipe, tmp_path, words=Rewordings(Canned(GOOD), tmp_path / "r.json").vary)
    assert again.digest == version.digest


@pytest.mark.mini
def test_mini_model_paraphrases_are_validated(tmp_path: Path) -> None:
    """mini can't word a comment anew; the checker must see that, and the rules step in."""
    from mondrian_core.data.base_model_critic import BaseRewriter
    from mondrian_core.models.base_model import load_base

    rewordings = Rewordings(BaseRewriter(load_base("mini")), tmp_path / "r.json")
    comments = {name: f"{number} stones. {SPOKEN}" for number, name in enumerate(DIMENSIONS)}
    varied = rewordings.vary(comments, 5)
    assert rewordings.asked == 8
    assert all(not paraphrase_problems(comments[name], (varied or comments)[name]) for name in DIMENSIONS)
