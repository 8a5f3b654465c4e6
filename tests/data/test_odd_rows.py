"""Databases of other programs: their table rules refuse nothing, and a malformed cell affects its own record only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mondrian_core.data.linking.link import ExclusionReason, link_critiques
from mondrian_core.data.retrieval_index import build_index
from mondrian_core.errors import BadInput, DatabaseRefused
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.serving.jobs import feedback
from mondrian_core.store import DimensionalProfile, Job, Store
from mondrian_core.store.corrections import correction_id
from mondrian_core.store.drafts import Draft, DraftStore
from mondrian_core.store.embeddings import Embedding, EmbeddingStore
from mondrian_core.store.migrations import ORIGINAL_TABLES
from tests.data.stand_in import VOICE, Stub, jpeg, profile, workspace_of

PORTFOLIO = "source/advisor/photographer/ansel"
PROFILES = ORIGINAL_TABLES["dimensional_profiles"]
COLUMNS = [*(f"{name}_score" for name in DIMENSIONS), *(f"{name}_comment" for name in DIMENSIONS)]
COMMENT = "The tree stands on the left and holds the frame."
TOLD = {"dimensional_analysis": {name: {"score": 3, "comment": "Mine: rather flat."} for name in DIMENSIONS}}
ANSWER = make_critique(dict.fromkeys(DIMENSIONS, 6), dict.fromkeys(DIMENSIONS, "A model says so.")).as_dict()
RULES = {
    "unique constraint": [
        PROFILES[:-1] + ", created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, UNIQUE (advisor_id, image_path))"
    ],
    "replacing constraint": [PROFILES[:-1] + ", UNIQUE (advisor_id, image_path) ON CONFLICT REPLACE)"],
    "unique index": [PROFILES, "CREATE UNIQUE INDEX one ON dimensional_profiles (advisor_id, image_path)"],
    "columns of their own": [PROFILES[:-1] + ", model_version TEXT NOT NULL, reviewed INTEGER NOT NULL, note TEXT)"],
    "trigger that refuses": [
        PROFILES,
        "CREATE TRIGGER closed BEFORE INSERT ON dimensional_profiles WHEN "
        "(SELECT count(*) FROM dimensional_profiles) > 1 BEGIN SELECT RAISE(ABORT, 'no'); END",
    ],
    "trigger that replaces": [
        PROFILES,
        "CREATE TRIGGER last AFTER INSERT ON dimensional_profiles BEGIN DELETE FROM "
        "dimensional_profiles WHERE image_path = new.image_path AND id <> new.id; END",
    ],
    "check": [PROFILES.replace("overall_grade TEXT", "overall_grade TEXT CHECK (overall_grade = '5.0')")],
    "numbered rows": [PROFILES.replace("id TEXT PRIMARY KEY", "id INTEGER PRIMARY KEY AUTOINCREMENT")],
    "without rowid": [PROFILES + " WITHOUT ROWID"],
    "view": [
        PROFILES.replace("TABLE dimensional_profiles", "TABLE critiques"),
        "CREATE VIEW dimensional_profiles AS SELECT * FROM critiques",
    ],
    "upper case": [PROFILES[:-1].replace("overall_grade", "Overall_Grade") + ", Created_At TEXT)"],
}


def critique_row(number: str, path: str) -> tuple[Any, ...]:
    return (number, "ansel", path, *[7.0] * 8, *[COMMENT] * 8, "5.0")


def make_database(path: Path, statements: list[str]) -> None:
    """The older project's tables with one additional rule; two critiques by the advisor, of a.jpg and b.jpg."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for name in ("advisors", "jobs"):
            connection.execute(ORIGINAL_TABLES[name])
        for statement in statements:
            connection.execute(statement)
        connection.execute("INSERT INTO advisors VALUES ('ansel', 'Ansel Adams', 'Landscapes.', NULL)")
        named = ["id", "advisor_id", "image_path", *COLUMNS, "overall_grade"]
        table = "critiques" if "VIEW" in statements[-1] else "dimensional_profiles"
        present = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        more = [name for name in ("model_version", "reviewed") if name in present]
        for number, file in enumerate(("a.jpg", "b.jpg"), 1):
            values = (*critique_row(str(number), f"{PORTFOLIO}/{file}"), *more)
            marks = ", ".join("?" * len(values))
            connection.execute(f"INSERT INTO {table} ({', '.join([*named, *more])}) VALUES ({marks})", values)


def theirs(path: Path) -> list[tuple[Any, ...]]:
    """The advisor's own rows, as stored in the table."""
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT id, image_path, {', '.join(COLUMNS)} FROM dimensional_profiles ORDER BY id"
        return connection.execute(query).fetchall()


@pytest.fixture(params=sorted(RULES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    home = tmp_path / PORTFOLIO
    home.mkdir(parents=True)
    (tmp_path / "analysis_md").mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", "c.jpg")):
        (home / name).write_bytes(jpeg(number))
    make_database(tmp_path / "mondrian.db", RULES[request.param])
    with Store(tmp_path / "mondrian.db") as opened:
        yield opened


def answered(store: Store, name: str) -> Job:
    job, _ = store.add_job("ansel", f"advisor/photographer/ansel/{name}")
    return store.finish_job(job.id, answer=ANSWER, model_used="base", mode="baseline")


def test_program_never_replaces_rows_of_a_person_under_any_table_rules(tmp_path: Path, store: Store) -> None:
    before = theirs(store.path)
    assert len(before) == 2
    first, second = (
        answered(store, "a.jpg"),
        answered(store, "a.jpg"),
    )  # two jobs of one photograph, which has a critique
    for job in (first, second, first):
        feedback.correct_critique(store, store.job(job.id) or job, TOLD)
        found = feedback.stored_correction(store, store.job(job.id) or job)
        assert found is not None
        assert found.comments["lighting"] == "Mine: rather flat."
    done = build_index(store, tmp_path, "ansel", Stub())
    assert (done.embedded, done.scored) == (3, 1)
    again = build_index(store, tmp_path, "ansel", Stub("another base"))
    assert (again.embedded, again.scored) == (3, 1)
    draft = Draft(
        id="d1",
        advisor="ansel",
        sha256="0" * 64,
        image_path=f"{PORTFOLIO}/b.jpg",
        base="base",
        prompt_digest="digest",
        raw={},
        proposal=make_critique(dict.fromkeys(DIMENSIONS, 4), dict.fromkeys(DIMENSIONS, "Drafted.")),
    )
    DraftStore(store).add([draft])
    DraftStore(store).accept("d1", "person:test")
    assert theirs(store.path) == before
    profiles = store.profiles("ansel")
    assert [each.id for each in profiles[:2]] == ["1", "2"]
    assert {each.id for each in profiles} >= {correction_id(first.id), correction_id(second.id)}
    assert [each.origin for each in profiles].count("index") == 1, "one, the last base's"
    manifest = link_critiques(store, tmp_path, "ansel")
    used = {each.record for each in manifest.used}
    assert f"profile:{correction_id(first.id)}" in used, "the last word on a.jpg"
    assert "profile:2" in used, "the advisor's critique of b.jpg comes before a draft"
    records = [*(each.record for each in manifest.used), *(each.record for each in manifest.left_out)]
    assert len(records) == len(set(records))


def test_every_version_of_a_correction_is_kept(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        for score in (2.0, 9.0):
            store.save_profile(profile(5, scores=dict.fromkeys(DIMENSIONS, score)))
        assert [each.scores["lighting"] for each in store.profiles() if each.id == "p5"] == [9.0]
        kept = store.select("SELECT lighting_score FROM added_profiles ORDER BY number")
        assert [row[0] for row in kept] == [2.0, 9.0]


def test_older_correction_among_profiles_is_superseded_and_kept(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        store.add_profiles([profile(0, id="correction-j1", scores=dict.fromkeys(DIMENSIONS, 2.0))])
        store.save_profile(profile(0, id="correction-j1", scores=dict.fromkeys(DIMENSIONS, 9.0)))
        (found,) = [each for each in store.profiles() if each.id == "correction-j1"]
        assert found.scores["lighting"] == 9.0
        assert len(store.select("SELECT 1 FROM dimensional_profiles")) == 2


def test_jobs_table_with_additional_columns_accepts_jobs(tmp_path: Path) -> None:
    path = tmp_path / "mondrian.db"
    make_database(path, [PROFILES])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE jobs")
        connection.execute(ORIGINAL_TABLES["jobs"][:-1] + ", queue TEXT NOT NULL, priority INTEGER NOT NULL)")
    with Store(path) as store:
        job = answered(store, "a.jpg")
        assert job.status == "completed"
        assert store.select("SELECT queue, priority FROM jobs") == [("", 0)]


def test_violated_database_rule_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mondrian.db"
    make_database(path, [PROFILES])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER closed BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'closed for now'); END"
        )
    with Store(path) as store:
        with pytest.raises(DatabaseRefused, match="closed for now"):
            store.add_job("ansel", "a.jpg")
        assert list(store.jobs()) == []


# --- odd cells --------------------------------------------------------------------------------------------------------

# one dimension stands for all: their columns are read by one loop
OTHER_DIMENSIONS = tuple(f"{name}_" for name in DIMENSIONS[1:])
NOT_UTF8 = "cast(x'5363686ef66e' as text)"
ODD = [
    NOT_UTF8,
    "x'0102ff'",
    "7",
    "-0.5",
    "9e999",
    "9223372036854775807",
    "''",
    "NULL",
    "'a' || char(0) || 'b'",
    "'nan'",
    "replace(hex(zeroblob(200)), '00', '9')",
]


def odd_workspace(folder: Path) -> Store:
    """Three critiques by a person, a job by a model, an accepted draft; tests then malform a cell."""
    store = workspace_of(folder, 5)
    with store.transaction() as connection:
        connection.execute("DELETE FROM dimensional_profiles WHERE id IN ('p3', 'p4')")
    store.import_jobs([Job(id="j1", filename="photo_3.jpg", advisor="ansel", status="completed", answer=ANSWER)])
    draft = Draft(
        id="d1",
        advisor="ansel",
        sha256="1" * 64,
        image_path="source/photo_4.jpg",
        base="base",
        prompt_digest="digest",
        raw={"lighting": 4.0},
        proposal=make_critique(
            dict.fromkeys(DIMENSIONS, 4), dict.fromkeys(DIMENSIONS, "Drafted by a model, read by a person.")
        ),
    )
    DraftStore(store).add([draft])
    DraftStore(store).accept("d1", "person:test")
    return store


def change(store: Store, statement: str) -> None:
    with store.transaction() as connection:
        connection.execute(statement)


@pytest.mark.no_cover  # the same lines for each column and cell
@pytest.mark.parametrize("cell", ODD)
@pytest.mark.parametrize(
    ("table", "record", "key"),
    [("dimensional_profiles", "profile:p0", "p0"), ("jobs", "job:j1", "j1"), ("drafts", "draft:d1", "d1")],
)
def test_malformed_cell_excludes_only_its_record(tmp_path: Path, table: str, record: str, key: str, cell: str) -> None:
    with odd_workspace(tmp_path) as store:
        names = [row[0] for row in store.select(f"SELECT name FROM pragma_table_info('{table}') WHERE NOT pk")]
        columns = [name for name in names if not name.startswith(OTHER_DIMENSIONS)]
        needed = {row[0] for row in store.select(f"SELECT name FROM pragma_table_info('{table}') WHERE \"notnull\"")}
        others = {"profile:p1", "profile:p2", "draft:d1", "profile:p0"} - {record}
        for column in columns:
            if cell == "NULL" and column in needed:
                continue
            old = store.select(f"SELECT \"{column}\" FROM {table} WHERE id = '{key}'")[0][0]
            change(store, f"UPDATE {table} SET \"{column}\" = {cell} WHERE id = '{key}'")
            manifest = link_critiques(store, tmp_path, "ansel")
            used = {each.record for each in manifest.used}
            left = {each.record: each.detail for each in manifest.left_out}
            assert others <= used, (column, cell, left)
            assert (record in used) != (record in left), (column, cell)
            DraftStore(store).find("ansel")
            assert len(store.latest_jobs(9)) <= 1
            with store.transaction() as connection:
                connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE id = ?', (old, key))


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("composition_comment", NOT_UTF8, ExclusionReason.UNREADABLE_RECORD),
        ("composition_comment", "x'0102ff'", ExclusionReason.UNREADABLE_RECORD),
        ("composition_comment", "7.25", None),  # SQLite makes a text of it: the column is TEXT
        ("image_path", NOT_UTF8, ExclusionReason.UNREADABLE_RECORD),
        ("advisor_id", "x'ff'", ExclusionReason.UNREADABLE_RECORD),
        ("lighting_score", "'8/10'", None),
        ("lighting_score", "'good'", ExclusionReason.UNPARSABLE_ANSWER),
        ("lighting_score", "9e999", ExclusionReason.SCORE_OUT_OF_RANGE),
        ("overall_grade", "8.1", None),
    ],
)
def test_malformed_cell_is_read_or_excludes_record_with_reason(
    tmp_path: Path, column: str, cell: str, reason: ExclusionReason | None
) -> None:
    with odd_workspace(tmp_path) as store:
        change(store, f"UPDATE dimensional_profiles SET {column} = {cell} WHERE id = 'p0'")
        manifest = link_critiques(store, tmp_path, "ansel")
    left = {each.record: each for each in manifest.left_out}
    if reason is None:
        assert "profile:p0" in {each.record for each in manifest.used}
    else:
        assert left["profile:p0"].reason is reason
        assert column.removesuffix("_score") in left["profile:p0"].detail


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("dimensional_profiles", "emotional_impact_comment"),
        ("dimensional_profiles", "lighting_score"),
        ("dimensional_profiles", "overall_grade"),
        ("advisors", "prompt"),
        ("advisors", "bio"),
        ("jobs", "completed_at"),
        ("jobs", "analysis_markdown"),
        ("jobs", "llm_outputs"),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_missing_column_is_tolerated(tmp_path: Path, table: str, column: str, read_only: bool) -> None:
    (tmp_path / "source").mkdir()
    path = tmp_path / "mondrian.db"
    make_database(path, [PROFILES])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE dimensional_profiles SET image_path = 'source/' || id || '.jpg'")
        connection.execute(
            "INSERT INTO jobs (id, filename, advisor, status) VALUES ('j1', 'x.jpg', 'ansel', 'completed')"
        )
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for number in (1, 2):
        (tmp_path / "source" / f"{number}.jpg").write_bytes(jpeg(number))
    with Store(path, read_only=read_only) as store:
        manifest = link_critiques(store, tmp_path, "ansel")
        assert store.advisor("ansel").name == "Ansel Adams"
        assert [job.id for job in store.jobs("ansel")] == ["j1"]
        assert store.latest_jobs(3) == []
        if not read_only:
            assert answered(store, "a.jpg").status == "completed"
    needed = column.endswith(("_comment", "_score"))
    assert len(manifest.used) == (0 if needed else 2)
    assert len(manifest.used) + len(manifest.left_out) == 3


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("'2026-01-20T09:00:00'", "'2026-01-20 18:00:00'"),
        ("'2026-01-20T23:30:00+09:00'", "'2026-01-20T15:00:00Z'"),
        ("1700000000", "'2026-01-20 18:00:00'"),
        ("'1700000000'", "1800000000000"),
        ("'2026-01-20 18:00:00'", "1800000000"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_later_timestamp_wins_in_any_spelling(tmp_path: Path, earlier: str, later: str, swapped: bool) -> None:
    with workspace_of(tmp_path, 1) as store:
        store.add_profiles([profile(0, id="other", scores=dict.fromkeys(DIMENSIONS, 2.0))])
        first, second = ("other", "p0") if swapped else ("p0", "other")
        change(store, f"UPDATE dimensional_profiles SET created_at = {earlier} WHERE id = '{first}'")
        change(store, f"UPDATE dimensional_profiles SET created_at = {later} WHERE id = '{second}'")
        (used,) = link_critiques(store, tmp_path, "ansel").used
    assert used.record == f"profile:{second}"


def test_insertion_order_decides_without_timestamps(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        store.add_profiles([profile(0, id="other", scores=dict.fromkeys(DIMENSIONS, 2.0))])
        change(store, "UPDATE dimensional_profiles SET created_at = NULL WHERE id = 'other'")
        (used,) = link_critiques(store, tmp_path, "ansel").used
    assert used.record == "profile:other"


def test_unreadable_embeddings_are_skipped_and_rebuilt(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 5) as store:
        build_index(store, tmp_path, "ansel", Stub())
        rows = [row[0] for row in store.select("SELECT sha256 FROM embeddings ORDER BY image_path")]
        odd = (np.zeros(7, "<f4").tobytes(), b"abc", "a text", np.full(3, np.nan, "<f4").tobytes())
        with store.transaction() as connection:
            for sha256, vector in zip(rows, odd, strict=False):
                connection.execute("UPDATE embeddings SET vector = ? WHERE sha256 = ?", (vector, sha256))
        left = EmbeddingStore(store).find("ansel", "stub")
        assert [type(each) for each in left] == [Embedding] or {len(each.vector) for each in left} == {3}
        done = build_index(store, tmp_path, "ansel", Stub())
        assert done.embedded >= 3
        assert {len(each.vector) for each in EmbeddingStore(store).find("ansel", "stub")} == {3}


def test_unreadable_draft_has_a_reason(tmp_path: Path) -> None:
    with odd_workspace(tmp_path) as store:
        change(store, "UPDATE drafts SET proposal = 'not JSON'")
        assert DraftStore(store).find("ansel") == []
        (row,) = DraftStore(store).unreadable()
        assert row.id == "d1"
        with pytest.raises(BadInput, match="proposal"):
            DraftStore(store).accept("d1", "person:test")


def test_advisor_with_unreadable_prompt_is_rejected_by_name(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        change(store, f"INSERT INTO advisors VALUES ('odd', {NOT_UTF8}, x'ff', x'ff')")
        change(store, f"INSERT INTO advisors VALUES ({NOT_UTF8}, 'No id', '', NULL)")
        change(store, "INSERT INTO advisors VALUES ('number', 7, 8.5, NULL)")
        assert {advisor.advisor for advisor in store.advisors()} == {"ansel", "number"}
        with pytest.raises(BadInput, match="odd"):
            store.advisor("odd")
        assert store.advisor("ansel") == VOICE


def test_profiles_with_numeric_or_missing_id_are_named(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 1) as store:
        change(store, "INSERT INTO dimensional_profiles (id, advisor_id, image_path) VALUES (NULL, 'ansel', 'x.jpg')")
        assert all(isinstance(each, DimensionalProfile) and each.id for each in store.profiles())
