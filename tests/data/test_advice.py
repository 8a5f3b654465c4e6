"""Advice on the way from stored critiques to dataset rows: read from every source, counted, taught, never cut."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mondrian_core.critique_parsing import parse_critique_strict
from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
from mondrian_core.data.dataset.token_budget import RowLength, TokenBudget
from mondrian_core.data.dataset.version import DatasetVersion
from mondrian_core.data.linking.link import LinkManifest, link_critiques
from mondrian_core.data.linking.link_manifest import ADVICE_PART_USES, AdvicePart
from mondrian_core.prompts import ADVICE_INSTRUCTION, AdvisorPrompt
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, AnswerForm, Critique, canonical_answer, make_critique
from mondrian_core.store import COMPLETED, Job, Store
from mondrian_core.store.drafts import Draft, DraftStore
from tests.data.stand_in import VOICE, jpeg, profile, workspace_of

ADVICE = {name: f"Return at dusk for {name}." for name in DIMENSIONS}
DETAILS: dict[str, Any] = {
    "strengths": ["The tree on the left stands clear.", "A calm sky."],
    "priority_improvements": ["Look to the left of the tree."],
    "advisor_notes": "f/8 on a tripod.",
    "image_description": "A tree.",
    "regions": {"lighting": [[0.1, 0.2, 0.4, 0.8]]},
}
RECIPE = DataRecipe(variants=3, variations=1, answer_form="auto")
PLAIN = DataRecipe(variants=0, answer_form="auto")


def advised_workspace(folder: Path, photographs: int = 12, advised: int = 12) -> Store:
    """A workspace whose first `advised` critiques advise in full."""
    store = workspace_of(folder, photographs)
    for number in range(advised):
        store.save_profile(profile(number, recommendations=ADVICE, details=DETAILS))
    return store


def built(folder: Path, recipe: DataRecipe = RECIPE, **counts: int) -> DatasetVersion:
    with advised_workspace(folder, **counts) as store:
        manifest = link_critiques(store, folder, "ansel")
    return build_dataset(manifest, VOICE, recipe, folder)


def store_advisor(folder: Path) -> AdvisorPrompt:
    with Store(folder / "mondrian.db") as store:
        return store.advisor("ansel")


def held(manifest: LinkManifest, part: AdvicePart) -> tuple[int, int]:
    counts = manifest.part_counts[part]
    return counts["used"], counts["left_out"]


# --- linking ----------------------------------------------------------------------------------------------------------


def older_analysis(**more: Any) -> str:
    dimensions = [
        {"name": title, "score": 7, "comment": f"Calm {name}.", "recommendation": ADVICE[name]}
        for name, title in DIMENSION_TITLES.items()
    ]
    dimensions[1]["regions"] = [[100, 200, 400, 800]]
    answer = {
        "image_description": "A tree.",
        "dimensions": dimensions,
        "overall_score": 7,
        "key_strengths": DETAILS["strengths"],
        "priority_improvements": DETAILS["priority_improvements"],
        "technical_notes": "f/8 on a tripod.",
    }
    return f"```json\n{json.dumps(answer | more)}\n```"


def link_row(folder: Path) -> LinkManifest:
    with workspace_of(folder, 0) as store:
        store.save_profile(profile(0, recommendations=ADVICE, details=DETAILS))
        return link_critiques(store, folder, "ansel")


def link_columns_of_a_person(folder: Path) -> LinkManifest:
    """Columns that somebody added to the original table, under the names of the older analyses."""
    with workspace_of(folder, 0) as store:
        store.add_profiles([profile(0, recommendations=ADVICE, details={"regions": DETAILS["regions"]})])
    with sqlite3.connect(folder / "mondrian.db") as connection:
        for column in ("key_strengths", "priority_improvements", "technical_notes", "image_description"):
            connection.execute(f"ALTER TABLE dimensional_profiles ADD COLUMN {column} TEXT")
        connection.execute(
            "UPDATE dimensional_profiles SET key_strengths = ?, priority_improvements = ?, technical_notes = ?, "
            "image_description = ?",
            (
                json.dumps(DETAILS["strengths"]),
                "\n".join(DETAILS["priority_improvements"]),
                DETAILS["advisor_notes"],
                DETAILS["image_description"],
            ),
        )
    connection.close()
    with Store(folder / "mondrian.db") as store:
        return link_critiques(store, folder, "ansel")


def link_job(folder: Path, answer: dict[str, Any] | None = None) -> LinkManifest:
    job = Job(
        id="j", filename="photo_0.jpg", advisor="ansel", status=COMPLETED, analysis_markdown="a.md", answer=answer
    )
    with workspace_of(folder, 0) as store:
        store.import_jobs([job])
        return link_critiques(store, folder, "ansel")


def link_older_analysis(folder: Path) -> LinkManifest:
    (folder / "analysis_md").mkdir()
    (folder / "analysis_md" / "a.md").write_text(older_analysis())
    return link_job(folder)


def link_answer_of_the_service(folder: Path) -> LinkManifest:
    answer = advising_critique().as_dict() | {"image_description": "A tree."}
    return link_job(folder, answer)


def advising_critique() -> Critique:
    plain = make_critique(dict.fromkeys(DIMENSIONS, 7.0), {name: f"Calm {name}." for name in DIMENSIONS})
    advised = {name: replace(each, recommendation=ADVICE[name]) for name, each in plain.assessments.items()}
    advised["lighting"] = replace(advised["lighting"], regions=((0.1, 0.2, 0.4, 0.8),))
    return replace(
        plain,
        assessments=advised,
        advisor_notes=DETAILS["advisor_notes"],
        strengths=tuple(DETAILS["strengths"]),
        priority_improvements=tuple(DETAILS["priority_improvements"]),
    )


@pytest.mark.parametrize(
    "link",
    [link_row, link_columns_of_a_person, link_older_analysis, link_answer_of_the_service],
    ids=lambda f: f.__name__,
)
def test_every_source_is_read_in_full(tmp_path: Path, link: Any) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "photo_0.jpg").write_bytes(jpeg(0))
    manifest = link(tmp_path)
    (record,) = manifest.used
    assert record.recommendations == ADVICE
    assert record.regions == {"lighting": ((0.1, 0.2, 0.4, 0.8),)}
    assert record.strengths == tuple(DETAILS["strengths"])
    assert record.priority_improvements == tuple(DETAILS["priority_improvements"])
    assert (record.advisor_notes, record.image_description) == ("f/8 on a tripod.", "A tree.")
    assert LinkManifest.from_dict(json.loads(json.dumps(manifest.as_dict()))) == manifest
    assert {part: manifest.part_counts[part]["used"] for part in AdvicePart} == {
        AdvicePart.RECOMMENDATIONS: 8,
        AdvicePart.REGIONS: 1,
        AdvicePart.STRENGTHS: 2,
        AdvicePart.PRIORITY_IMPROVEMENTS: 1,
        AdvicePart.ADVISOR_NOTES: 1,
        AdvicePart.IMAGE_DESCRIPTION: 1,
    }
    assert all(use in manifest.table() for use in ADVICE_PART_USES.values())


def test_accepted_drafts_keep_their_advice(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        (tmp_path / "source" / "other.jpg").write_bytes(jpeg(77))
        drafts = DraftStore(store)
        draft = Draft(
            id="d",
            advisor="ansel",
            sha256="ab" * 32,
            image_path="source/other.jpg",
            base="b",
            prompt_digest="",
            raw={},
            proposal=advising_critique(),
        )
        drafts.add([draft])
        drafts.accept("d", "mike")
        manifest = link_critiques(store, tmp_path, "ansel")
    record = next(each for each in manifest.used if each.record == "draft:d")
    assert record.critique == advising_critique()


def test_advice_of_records_left_out_is_counted(tmp_path: Path) -> None:
    """A person's critique takes precedence over the analysis; an incomplete one is never used; both are counted."""
    with advised_workspace(tmp_path, photographs=2, advised=0) as store:
        (tmp_path / "analysis_md" / "a.md").write_text(older_analysis())
        (tmp_path / "analysis_md" / "b.md").write_text(
            older_analysis(dimensions=json.loads(older_analysis().strip("`json\n"))["dimensions"][:3])
        )
        jobs = [("a", "photo_0.jpg"), ("b", "photo_1.jpg")]
        store.import_jobs(
            Job(id=name, filename=file, advisor="ansel", status=COMPLETED, analysis_markdown=f"{name}.md")
            for name, file in jobs
        )
        store.save_profile(profile(9, "source/gone.jpg", recommendations=ADVICE))
        manifest = link_critiques(store, tmp_path, "ansel")
    assert held(manifest, AdvicePart.RECOMMENDATIONS) == (0, 8 + 3 + 8)
    assert held(manifest, AdvicePart.STRENGTHS) == (0, 4)
    by_record = {left.record: left.parts.get("recommendations") for left in manifest.left_out}
    assert by_record == {"job:a": 8, "job:b": 3, "profile:p9": 8}


def test_an_unreadable_recommendation_is_reported(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1):
        pass
    with sqlite3.connect(tmp_path / "mondrian.db") as connection:
        connection.execute("UPDATE dimensional_profiles SET lighting_recommendation = x'ff'")
    connection.close()
    with Store(tmp_path / "mondrian.db") as store:
        (record,) = link_critiques(store, tmp_path, "ansel").used
    assert record.repairs == ("unreadable_lighting_recommendation",)


def test_every_recommendation_of_the_sample_workspace_is_accounted_for(real_workspace_copy: Path) -> None:
    """The older project's analyses: what isn't taught, because the analysis is incomplete, is counted all the same."""
    analyses = [file.read_text() for file in (real_workspace_copy / "analysis_md").iterdir()]
    written = sum(text.count('"recommendation": "') for text in analyses)
    with Store(real_workspace_copy / "mondrian.db") as store:
        manifest = link_critiques(store, real_workspace_copy, "ansel")
    used, left_out = held(manifest, AdvicePart.RECOMMENDATIONS)
    assert used + left_out == written > 0
    version = build_dataset(manifest, store_advisor(real_workspace_copy), PLAIN, real_workspace_copy)
    answers = [row.answer for split in ("train", "validation", "test") for row in version.rows(split)]
    assert sum(answer.count('"recommendation": "') for answer in answers) == used


# --- the dataset ------------------------------------------------------------------------------------------------------


def test_the_form_follows_the_critiques(tmp_path: Path) -> None:
    half, less = (built(tmp_path / str(advised), advised=advised) for advised in (6, 5))
    assert (half.answer_form, less.answer_form) == (AnswerForm.ADVICE, AnswerForm.COMMENTS)
    forced = built(tmp_path / "forced", DataRecipe(answer_form="advice"), advised=1)
    refused = built(tmp_path / "refused", DataRecipe(answer_form="comments"))
    assert (forced.answer_form, refused.answer_form) == (AnswerForm.ADVICE, AnswerForm.COMMENTS)
    assert '"recommendation"' not in "".join(row.answer for row in refused.rows("train"))
    assert {row.form for row in forced.rows("train")} == {AnswerForm.ADVICE}
    assert ADVICE_INSTRUCTION in json.dumps(forced.rows("train")[0].messages, ensure_ascii=False).replace('\\"', '"')


def test_all_advice_reaches_the_rows_and_nothing_else_is_invented(tmp_path: Path) -> None:
    version = built(tmp_path, PLAIN, advised=8)
    rows = {row.photo_id: row for split in ("train", "validation", "test") for row in version.rows(split)}
    read = {photo_id: parse_critique_strict(row.answer) for photo_id, row in rows.items()}
    advised = [critique for critique in read.values() if critique.recommendations]
    assert len(advised) == 8 and all(critique.recommendations == ADVICE for critique in advised)
    assert all(critique.regions == {"lighting": ((0.1, 0.2, 0.4, 0.8),)} for critique in advised)
    assert all(critique.strengths == tuple(DETAILS["strengths"]) for critique in advised)
    silent = [rows[photo_id].answer for photo_id, critique in read.items() if not critique.recommendations]
    assert len(silent) == 4
    assert not any(key in answer for answer in silent for key in ("recommendation", "strengths", "priority", "regions"))
    assert not any("f/8" in row.answer for row in rows.values())
    assert version.manifest["parts"] == dict.fromkeys(
        ("recommendations", "regions", "strengths", "priority_improvements"), 8
    )
    assert "| recommendations | 8 of 12 (67%) |" in (version.path / "README.md").read_text()


def test_variants_and_paraphrases_change_advice_with_the_picture(tmp_path: Path) -> None:
    version = built(tmp_path)
    answers = [parse_critique_strict(row.answer) for row in version.rows("train")]
    strengths = {critique.strengths[:1] for critique in answers}
    assert ("The tree on the right stands clear.",) in strengths
    boxes = {critique.regions["lighting"][0] for critique in answers if critique.regions}
    assert (0.6, 0.2, 0.9, 0.8) in boxes
    for critique in answers:
        right = "right" in critique.assessments["composition"].comment
        assert ("right" in "".join(critique.priority_improvements)) == right
        if critique.regions and critique.regions["lighting"][0] == (0.1, 0.2, 0.4, 0.8):
            assert not right


def test_the_form_and_the_advice_change_the_digest(tmp_path: Path) -> None:
    with advised_workspace(tmp_path) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    one = replace(manifest.used[0], strengths=("Another strength.",))
    other = LinkManifest(manifest.advisor, (one, *manifest.used[1:]), manifest.left_out)
    digests = [
        build_dataset(manifest, VOICE, RECIPE, tmp_path).digest,
        build_dataset(other, VOICE, RECIPE, tmp_path).digest,
        build_dataset(manifest, VOICE, DataRecipe(variants=3, variations=1, answer_form="comments"), tmp_path).digest,
    ]
    assert len(set(digests)) == 3


def test_a_long_row_loses_advice_before_the_critique_and_says_so(tmp_path: Path) -> None:
    """The least useful part goes first, whole; the critique itself is left out only when it alone is too long."""
    with advised_workspace(tmp_path) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    full = build_dataset(manifest, VOICE, PLAIN, tmp_path).rows("train")[0].answer
    notices: list[str] = []
    limit = len(full) - 40  # characters stand for tokens; without strengths the row fits
    budget = TokenBudget(lambda messages, image, answer: RowLength(0, 1, len(answer) // 2), limit // 2)
    version = _built_with(manifest, tmp_path, budget, notices)
    assert version.photographs["train"] and len(version.manifest["shortened"]) == 12
    assert all("strengths (" in each["detail"] for each in version.manifest["shortened"])
    rows = [parse_critique_strict(row.answer) for row in version.rows("train")]
    assert all(not critique.strengths and critique.recommendations == ADVICE for critique in rows)
    assert any("without some of the advice" in notice for notice in notices)


def _built_with(manifest: LinkManifest, folder: Path, budget: TokenBudget, notices: list[str]) -> DatasetVersion:
    return build_dataset(
        manifest,
        VOICE,
        PLAIN,
        folder,
        lambda event: notices.append(str(event)),
        BuildLimits(token_budget=budget),
    )


def test_advice_that_no_answer_can_hold_is_named(tmp_path: Path) -> None:
    with advised_workspace(tmp_path) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    odd = replace(
        manifest.used[0],
        recommendations={**ADVICE, "lighting": "Wait. " * 200, "composition": "n/a"},
        priority_improvements=("One.", "Two.", "Three.", "Four."),
    )
    version = build_dataset(LinkManifest(manifest.advisor, (odd, *manifest.used[1:]), ()), VOICE, PLAIN, tmp_path)
    (shortened,) = version.manifest["shortened"]
    assert shortened["record"] == odd.record
    assert "the recommendation on lighting (1,200 of at most 600 characters)" in shortened["detail"]
    assert "the recommendation on composition (it says nothing)" in shortened["detail"]
    assert "1 of the priority_improvements (more than 3)" in shortened["detail"]


def test_corrected_critiques_are_rejected_in_the_form_of_the_rows(tmp_path: Path) -> None:
    with advised_workspace(tmp_path) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
    said = canonical_answer(advising_critique(), AnswerForm.ADVICE)
    corrected = LinkManifest(
        manifest.advisor, tuple(replace(record, corrects=said) for record in manifest.used), manifest.left_out
    )
    advice = build_dataset(corrected, VOICE, PLAIN, tmp_path)
    comments = build_dataset(corrected, VOICE, DataRecipe(variants=0, answer_form="comments"), tmp_path)
    assert set(advice.corrections.values()) == {said}
    assert not any("recommendation" in answer for answer in comments.corrections.values()) and comments.corrections
