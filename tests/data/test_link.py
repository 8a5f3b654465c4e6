"""Linking: every record is used, or excluded for one reason."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from mondrian_core.data.linking import photograph_files
from mondrian_core.data.linking.link import ExclusionReason, LinkedRecord, LinkManifest, link_critiques
from mondrian_core.data.linking.link_manifest import EXCLUSION_EXPLANATIONS, CritiqueCandidate
from mondrian_core.events import StageEvent
from mondrian_core.rubric import DIMENSION_TITLES, DIMENSIONS, canonical_answer, make_critique
from mondrian_core.store import COMPLETED, Job, Store
from mondrian_core.store.drafts import Draft, DraftStore
from tests.data.stand_in import jpeg, profile, workspace_of
from tests.legacy_workspace import EXIF_ROTATED, EXPECTED_COUNTS, PORTFOLIO, USED_PHOTOGRAPHS, record_id


def outcome_of(manifest: LinkManifest) -> dict[str, str]:
    """Record -> "used" or the reason."""
    used = {each.record: "used" for each in manifest.used}
    return used | {each.record: each.reason.value for each in manifest.left_out}


def analysis(score: float = 7.0, names: tuple[str, ...] = DIMENSIONS, comment: str = "The road leads in.") -> str:
    dimensions = [{"name": DIMENSION_TITLES[name], "score": score, "comment": comment} for name in names]
    return "```json\n" + json.dumps({"dimensions": dimensions, "overall_score": score}) + "\n```"


def job(number: int, filename: str, **changes: object) -> Job:
    values: dict[str, object] = {
        "status": COMPLETED,
        "analysis_markdown": f"a{number}.md",
        "created_at": f"2026-02-{number + 1:02d}T08:00:00",
    }
    return Job(id=f"j{number}", filename=filename, advisor="ansel", **{**values, **changes})


# --- the samples, record by record ------------------------------------------------------------------------------------

SAMPLES = {
    "profile:b32c0380": "used",
    "profile:a1770da6": "used",
    "profile:caaa4b17": "duplicate_of",
    "profile:294fbd9d": "used",
    "profile:23611386": "used",
    "profile:966baaec": "used",
    "profile:61513b9f": "used",
    "profile:90981431": "used",
    "profile:abda858a": "used",
    "profile:a7a4a4c1": "used",
    "profile:709f78e3": "used",
    "profile:9578feb8": "no_scores",
    "profile:b5b180ef": "no_scores",
    "profile:b807e23f": "temporary_file",
    "profile:24dea6c8": "empty_photograph",
    "profile:19778912": "not_a_photograph",
    "profile:24353c73": "missing_photograph",
    "job:63c0570b": "missing_dimensions",
    "job:7009e17f": "missing_dimensions",
    "job:528924e8": "missing_dimensions",
    "job:7efb1ad0": "unparsable_answer",
    "job:291e3a9f": "unparsable_answer",
    "job:c89a0461": "unparsable_answer",
    "job:210bf101": "unparsable_answer",
    "job:be2dfa00": "unparsable_answer",
    "job:stuck-1": "job_not_completed",
}


def test_records_of_field_samples_are_linked(real_workspace_copy: Path) -> None:
    with Store(real_workspace_copy / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, real_workspace_copy, "ansel")
    kind_and_start = {
        f"{record.split(':')[0]}:{record.split(':')[1][: 8 if 'stuck' not in record else None]}": outcome
        for record, outcome in outcome_of(manifest).items()
    }
    assert kind_and_start == SAMPLES
    assert_origin_size_and_duplicate(manifest, "neg.jpg", "profile:caaa4b17", "profile:a1770da6")


def test_records_of_older_workspace_are_linked(legacy_workspace_copy: Path) -> None:
    with Store(legacy_workspace_copy / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, legacy_workspace_copy, "ansel")
    assert manifest.counts == EXPECTED_COUNTS
    used = {f"profile:{record_id(name)}": f"{PORTFOLIO}/{name}" for name in USED_PHOTOGRAPHS}
    assert {each.record: each.photograph for each in manifest.used} == used
    assert_origin_size_and_duplicate(
        manifest, EXIF_ROTATED, f"profile:{record_id('copy')}", f"profile:{record_id('courtyard.jpg')}"
    )


def assert_origin_size_and_duplicate(manifest: LinkManifest, sideways: str, copy: str, original: str) -> None:
    assert all(each.origin == "human" for each in manifest.used)
    sizes = {each.photograph.rsplit("/", 1)[-1]: (each.width, each.height) for each in manifest.used}
    assert sizes[sideways] == (480, 640)
    assert sum(each.found == "tail" for each in manifest.used) == 4  # paths from another machine
    by_record = {each.record: each for each in manifest.left_out}
    duplicate = next(each for record, each in by_record.items() if record.startswith(copy))
    assert duplicate.detail.startswith(original)


def test_link_advisor_without_data(legacy_workspace_copy: Path) -> None:
    with Store(legacy_workspace_copy / "mondrian.db", read_only=True) as store:
        manifest = link_critiques(store, legacy_workspace_copy, "watkins")
    assert manifest.counts == {"used": 0, "other_advisor": 26}


def test_linking_is_deterministic_and_read_only(legacy_workspace_copy: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in legacy_workspace_copy.rglob("*")}
    texts = []
    for _ in range(2):
        with Store(legacy_workspace_copy / "mondrian.db", read_only=True) as store:
            texts.append(json.dumps(link_critiques(store, legacy_workspace_copy, "ansel").as_dict()))
    assert texts[0] == texts[1]
    assert {path: path.stat().st_mtime_ns for path in legacy_workspace_copy.rglob("*")} == before


# --- every reason, on its own -----------------------------------------------------------------------------------------


def broken(folder: Path, store: Store) -> dict[str, str]:
    """Add one record per exclusion reason; returns record -> expected reason."""
    source = folder / "source"
    (source / "empty.jpg").write_bytes(b"")
    (source / "page.jpg").write_text("<html>404</html>")
    (source / "cut.jpg").write_bytes(jpeg(1)[:900])
    (source / "a").mkdir()
    (source / "b").mkdir()
    for name in ("a/twin.jpg", "b/twin.jpg"):
        (source / name).write_bytes(jpeg(3))
    (source / "raw.jpg").write_bytes(b"FUJIFILMCCD-RAW " + bytes(200))
    Image.new("RGB", (3000, 10)).save(source / "strip.jpg")
    (source / "unplugged").symlink_to(folder / "not-mounted")
    huge = bytearray(jpeg(2))
    at = huge.index(b"\xff\xc0") + 5
    huge[at : at + 4] = b"\xff\xff\xff\xff"
    (source / "huge.jpg").write_bytes(huge)
    model = profile(0)
    rows = {
        "other_advisor": {"advisor": "watkins"},
        "temporary_file": {"image_path": "/tmp/x.jpg"},
        "no_path": {"image_path": "  "},
        "outside_workspace": {"image_path": "../x.jpg"},
        "missing_photograph": {"image_path": "source/none.jpg"},
        "broken_link": {"image_path": "source/unplugged/x.jpg"},
        "raw_photograph": {"image_path": "source/raw.jpg"},
        "too_narrow_photograph": {"image_path": "source/strip.jpg"},
        "ambiguous_photograph": {"image_path": "/old/twin.jpg"},
        "empty_photograph": {"image_path": "source/empty.jpg"},
        "not_a_photograph": {"image_path": "source/page.jpg"},
        "unreadable_photograph": {"image_path": "source/cut.jpg"},
        "too_large_photograph": {"image_path": "source/huge.jpg"},
        "missing_dimensions": {"scores": {**model.scores, "lighting": None}},
        "no_scores": {"scores": dict.fromkeys(DIMENSIONS)},
        "score_out_of_range": {"scores": {**model.scores, "lighting": 10.5}},
        "unparsable_answer": {"scores": {**model.scores, "lighting": "high"}},
        "no_comments": {"comments": {**model.comments, "lighting": " \u200b\ufeff"}},
        "unreadable_record": {"comments": {**model.comments, "lighting": b"Sch\xf6n"}},
        "placeholder_comments": {"comments": dict.fromkeys(DIMENSIONS, "ok.")},
        "duplicate_of": {"created_at": "2025-01-01T00:00:00"},
        "superseded": {"scores": {**model.scores, "lighting": 9.0}, "created_at": "2025-01-01T00:00:00"},
    }
    store.add_profiles(profile(0, **{"id": reason, **changes}) for reason, changes in rows.items())
    (folder / "analysis_md" / "a0.md").write_text(analysis())
    store.import_jobs(
        [
            job(0, "photo_1.jpg"),
            job(1, "photo_1.jpg", analysis_markdown=None),
            job(2, "photo_1.jpg", status="queued"),
            job(3, "photo_2.jpg", analysis_markdown="a0.md"),
        ]
    )
    (source / "photo_2.jpg").write_bytes(jpeg(2))
    store.add_profiles([profile(0, id="index_made", origin="index")])
    critique = make_critique(dict.fromkeys(DIMENSIONS, 5.0), dict.fromkeys(DIMENSIONS, "A river bends away."))
    drafts = DraftStore(store)
    drafts.add(
        Draft(
            id=f"d{number}",
            advisor="ansel",
            sha256=str(number),
            image_path="source/photo_1.jpg",
            base="base",
            prompt_digest="prompt",
            raw={},
            proposal=critique,
        )
        for number in range(2)
    )
    drafts.discard("d1", "person:test")
    return {f"profile:{reason}": reason for reason in rows} | {
        "profile:p0": "used",
        "profile:p1": "used",
        "job:j0": "superseded",
        "job:j1": "missing_analysis",
        "job:j2": "job_not_completed",
        "job:j3": "model_written",
        "profile:index_made": "index_made",
        "draft:d0": "draft_waiting",
        "draft:d1": "draft_discarded",
    }


def test_every_exclusion_reason_occurs_and_is_explained(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 2) as store:
        expected = broken(tmp_path, store)
        manifest = link_critiques(store, tmp_path, "ansel")
    assert outcome_of(manifest) == expected
    assert set(ExclusionReason) == set(EXCLUSION_EXPLANATIONS)
    assert {each.reason for each in manifest.left_out} == set(ExclusionReason)


def test_link_manifest_round_trip_and_counts(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 2) as store:
        expected = broken(tmp_path, store)
        manifest = link_critiques(store, tmp_path, "ansel")
    assert LinkManifest.from_dict(json.loads(json.dumps(manifest.as_dict()))) == manifest
    assert sum(manifest.counts.values()) == len(expected)
    assert manifest.used[0].critique.scores == profile(0).scores
    table = manifest.table()
    for reason in ExclusionReason:
        assert reason.value in table


def test_csv_has_one_line_per_record(tmp_path: Path) -> None:
    import pandas

    with workspace_of(tmp_path, 2) as store:
        expected = broken(tmp_path, store)
        link_critiques(store, tmp_path, "ansel").write_csv(tmp_path / "out" / "records.csv")
    frame = pandas.read_csv(tmp_path / "out" / "records.csv")
    assert len(frame) == len(expected)
    assert set(frame.loc[frame.outcome == "left_out", "reason"]) == set(ExclusionReason)
    assert frame.loc[frame.outcome == "used", list(DIMENSIONS)].notna().all().all()


def photographed(folder: Path, changes: dict[str, dict[str, object]]) -> dict[str, str]:
    """Outcome of profiles that differ from an ordinary one in `changes`, by record."""
    with workspace_of(folder, 1) as store:
        store.add_profiles(profile(0, **{"id": name, **change}) for name, change in changes.items())
        return outcome_of(link_critiques(store, folder, "ansel"))


def test_names_with_umlauts_match_in_any_normalization(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir(parents=True)
    (tmp_path / "source" / "Scho\u0308n.jpg").write_bytes(jpeg(7))
    (tmp_path / "source" / "\u00c4hre.jpg").write_bytes(jpeg(8))
    rows = {"one": {"image_path": "source/Sch\u00f6n.jpg"}, "two": {"image_path": "source/A\u0308hre.jpg"}}
    outcomes = photographed(tmp_path, rows)
    assert (outcomes["profile:one"], outcomes["profile:two"]) == ("used", "used")


def test_portfolio_behind_symlink_is_linked(tmp_path: Path) -> None:
    portfolio = tmp_path / "workspace" / "source" / "advisor" / "photographer"
    portfolio.mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "moon.jpg").write_bytes(jpeg(7))
    (portfolio / "ansel").symlink_to(tmp_path / "disk")
    rows = {"one": {"image_path": "source/advisor/photographer/ansel/moon.jpg"}}
    assert photographed(tmp_path / "workspace", rows)["profile:one"] == "used"
    assert photograph_files.portfolio_paths(tmp_path / "workspace", "ansel") == [
        "source/advisor/photographer/ansel/moon.jpg"
    ]


def test_absolute_paths_are_resolved_in_workspace_under_tmp(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="mondrian-") as name:
        (Path(name) / "source").mkdir()
        (Path(name) / "source" / "a.jpg").write_bytes(jpeg(7))
        rows = {"in": {"image_path": f"{name}/source/a.jpg"}, "out": {"image_path": "/tmp/analyze/x.jpg"}}
        outcomes = photographed(Path(name), rows)
    assert (outcomes["profile:in"], outcomes["profile:out"]) == ("used", "temporary_file")


def test_analyses_in_other_encodings_are_read_or_excluded(tmp_path: Path) -> None:
    """Decoded with the repair recorded, or excluded with a reason."""
    text = analysis(comment="@").replace("@", "Schönes Licht.")
    with workspace_of(tmp_path, 0) as store:
        files = {
            "cp1252": text.encode("cp1252"),
            "utf-16": text.encode("utf-16"),
            "mark": text.encode("utf-8-sig"),
            "roman": text.encode("mac_roman"),
            "half": text.encode() + b"\xff\xfe",
        }
        for number, (name, data) in enumerate(files.items()):
            (tmp_path / "source" / f"photo_{name}.jpg").write_bytes(jpeg(10 + number))
            (tmp_path / "analysis_md" / f"{name}.md").write_bytes(data)
        store.import_jobs(
            Job(
                id=name, filename=f"photo_{name}.jpg", advisor="ansel", status=COMPLETED, analysis_markdown=f"{name}.md"
            )
            for name in files
        )
        manifest = link_critiques(store, tmp_path, "ansel")
    repairs = {each.record: set(each.repairs) & {"decoded_windows_1252", "decoded_utf_16"} for each in manifest.used}
    assert repairs == {"job:cp1252": {"decoded_windows_1252"}, "job:utf-16": {"decoded_utf_16"}, "job:mark": set()}
    assert {each.comments["lighting"] for each in manifest.used} == {"Schönes Licht."}
    refused = {each.record: each for each in manifest.left_out}
    assert set(refused) == {"job:roman", "job:half"}
    assert "roman.md: its encoding can't be determined" in refused["job:roman"].detail


# --- the rule that chooses --------------------------------------------------------------------------------------------


def chosen(store: Store, folder: Path) -> list[str]:
    return [each.record for each in link_critiques(store, folder, "ansel").used]


def test_human_critique_precedes_newer_model_critique(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        (tmp_path / "analysis_md" / "a0.md").write_text(analysis())
        store.import_jobs([job(0, "photo_0.jpg", created_at="2030-01-01T00:00:00")])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert outcome_of(manifest) == {"profile:p0": "used", "job:j0": "superseded"}
    assert "person" in manifest.left_out[0].detail


def test_model_profile_is_not_ground_truth(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        (tmp_path / "source" / "other.jpg").write_bytes(jpeg(50))
        store.add_profiles([profile(1, "source/other.jpg", origin="model")])
        assert outcome_of(link_critiques(store, tmp_path, "ansel")) == {
            "profile:p0": "used",
            "profile:p1": "model_written",
        }


def test_model_critiques_are_used_with_a_notice_when_no_person_wrote_any(tmp_path: Path) -> None:
    events: list[StageEvent] = []
    with workspace_of(tmp_path, 0) as store:
        (tmp_path / "source" / "a.jpg").write_bytes(jpeg(1))
        (tmp_path / "analysis_md" / "a0.md").write_text(analysis())
        store.import_jobs([job(0, "a.jpg")])
        manifest = link_critiques(store, tmp_path, "ansel", events.append)
    assert [each.origin for each in manifest.used] == ["model"]
    assert any("No critique" in getattr(event, "message", "") for event in events)


def test_complete_critique_precedes_newest(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        newer = profile(1, "source/photo_0.jpg", overall_grade="7.9.0", created_at="2030-01-01T00:00:00")
        store.add_profiles([newer])
        assert chosen(store, tmp_path) == ["profile:p0"]


def test_newest_critique_wins_and_insertion_order_decides_without_dates(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        store.add_profiles(
            [
                profile(1, "source/photo_0.jpg", created_at="2025-01-01T00:00:00"),
                profile(2, "source/photo_0.jpg", created_at="2026-06-01T00:00:00"),
            ]
        )
        assert chosen(store, tmp_path) == ["profile:p2"]
        with store.transaction() as connection:
            connection.execute("UPDATE dimensional_profiles SET created_at = NULL")
        store.import_jobs([])
        assert chosen(store, tmp_path) == ["profile:p2"]


def test_copy_with_another_name_is_the_same_photograph(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        (tmp_path / "source" / "copy.jpg").write_bytes(jpeg(0))
        store.add_profiles([profile(1, "source/copy.jpg")])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert outcome_of(manifest) == {"profile:p0": "superseded", "profile:p1": "used"}


def test_answer_in_row_replaces_missing_analysis_file(tmp_path: Path) -> None:
    answer = {
        "dimensional_analysis": {name: {"score": 6, "comment": "A calm lake."} for name in DIMENSIONS},
        "overall_grade": "6.0",
    }
    with workspace_of(tmp_path, 0) as store:
        (tmp_path / "source" / "a.jpg").write_bytes(jpeg(1))
        store.import_jobs([job(0, "a.jpg", answer=answer), job(1, "a.jpg", answer=answer, analysis_markdown=None)])
        assert [each.scores["lighting"] for each in link_critiques(store, tmp_path, "ansel").used] == [6.0]


def test_analysis_is_read_from_its_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret.md").write_text(analysis())
    with workspace_of(tmp_path / "w", 0) as store:
        (tmp_path / "w" / "source" / "a.jpg").write_bytes(jpeg(1))
        store.import_jobs([job(0, "a.jpg", analysis_markdown="../../secret.md")])
        assert outcome_of(link_critiques(store, tmp_path / "w", "ansel")) == {"job:j0": "missing_analysis"}


def test_recommendations_are_recorded_and_not_taught(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "analysis_md").mkdir()
    dimensions = [
        {"name": DIMENSION_TITLES[name], "score": 7, "comment": "The road leads in.", "recommendation": f"Try {name}."}
        for name in DIMENSIONS
    ]
    text = json.dumps({"dimensions": dimensions, "overall_score": 7})
    (tmp_path / "analysis_md" / "a0.md").write_text(f"```json\n{text}\n```")
    for number in (0, 1):
        (tmp_path / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
    with Store.create(tmp_path / "mondrian.db") as store:
        store.import_jobs([job(0, "photo_0.jpg")])
        by_model = link_critiques(store, tmp_path, "ansel").used[0]
        store.save_profile(profile(1, recommendations={"lighting": "Wait."}))
        manifest = link_critiques(store, tmp_path, "ansel")
    assert by_model.recommendations == {name: f"Try {name}." for name in DIMENSIONS}
    (by_person,) = manifest.used
    assert by_person.recommendations == by_person.critique.recommendations == {"lighting": "Wait."}
    assert LinkManifest.from_dict(json.loads(json.dumps(manifest.as_dict()))) == manifest


def test_malformed_analysis_does_not_stop_linking(tmp_path: Path) -> None:
    """Each is read, or excluded with a reason; the other records are used in any case."""
    good = canonical_answer(
        make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "Calm light on a road."))
    )
    odd = {
        good.replace('"score": 7', '"score": 1' + "0" * 400, 1): "score_out_of_range",
        good.replace('"score": 7', '"score": 1' + "0" * 5000, 1): "score_out_of_range",
        good.replace("Calm light", "Calm \\ud83d light", 1): "unparsable_answer",
        good.replace("7", "3") + "\nOn second thought:\n" + good: "used",
        "```json\n" + good.replace("Calm light", "Use ```code``` here", 1) + "\n```": "used",
        good.replace('"7.0"', '"7.0/10"'): "used",
        good.replace("Calm light", "It’s “soft” <|im_end|> \x7f\u2028", 1): "used",
    }
    with workspace_of(tmp_path, 0) as store:
        for number, text in enumerate(odd):
            (tmp_path / "analysis_md" / f"a{number}.md").write_text(text, encoding="utf-8")
            (tmp_path / "source" / f"p{number}.jpg").write_bytes(jpeg(number))
        store.import_jobs([job(number, f"p{number}.jpg") for number in range(len(odd))])
        manifest = link_critiques(store, tmp_path, "ansel")
    assert outcome_of(manifest) == {f"job:j{number}": expected for number, expected in enumerate(odd.values())}
    used = {each.record: each for each in manifest.used}
    assert used["job:j3"].scores["lighting"] == 7
    assert "last_of_several" in used["job:j3"].repairs
    assert used["job:j4"].comments["composition"] == "Use ```code``` here on a road."


@pytest.mark.parametrize("comment", ["ok", "Fine.", "n/a", "-", "...", "TODO", "xxx", "good!"])
def test_placeholder_comments_are_excluded(tmp_path: Path, comment: str) -> None:
    with workspace_of(tmp_path, 1) as store:
        store.add_profiles([profile(1, "source/photo_0.jpg", comments=dict.fromkeys(DIMENSIONS, comment))])
        assert outcome_of(link_critiques(store, tmp_path, "ansel"))["profile:p1"] == "placeholder_comments"


def test_single_short_comment_is_accepted(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        comments = {**profile(0).comments, "lighting": "Fine."}
        store.add_profiles([profile(1, "source/photo_0.jpg", comments=comments)])
        assert outcome_of(link_critiques(store, tmp_path, "ansel"))["profile:p1"] == "used"


def test_nan_infinite_and_negative_scores_are_excluded(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        bad = {"nan": float("nan"), "inf": float("inf"), "minus": -0.1}
        store.add_profiles(
            profile(0, id=name, scores={**profile(0).scores, "lighting": value}) for name, value in bad.items()
        )
        outcomes = outcome_of(link_critiques(store, tmp_path, "ansel"))
    assert outcomes["profile:inf"] == outcomes["profile:minus"] == "score_out_of_range"
    assert outcomes["profile:nan"] == "missing_dimensions"  # SQLite keeps a NaN as NULL


def test_critique_candidate_is_a_plain_value() -> None:
    linked = LinkedRecord(
        record="profile:a",
        photograph="source/a.jpg",
        sha256="",
        width=1,
        height=1,
        found="as_given",
        origin="human",
        scores={},
        comments={},
    )
    assert CritiqueCandidate(linked, 0) == CritiqueCandidate(linked, 0)
