"""A rubric with a ninth dimension: new and existing databases both work, in either direction."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mondrian_core.store.migrations import SCHEMA_VERSION

ROOT = Path(__file__).resolve().parents[2]
NINTH = "storytelling"
# The rubric is read when modules are imported, so each release of it gets an interpreter of its own.
SCRIPT = """
import json, sys
from pathlib import Path
import mondrian_core.rubric as rubric
number, path, action = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if number == 9:
    rubric.DIMENSIONS = (*rubric.DIMENSIONS, "storytelling")
    rubric.DIMENSION_TITLES = {**rubric.DIMENSION_TITLES, "storytelling": "Storytelling"}
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.store import DimensionalProfile, Store
def critique(name):
    return DimensionalProfile(id=name, advisor="ansel", image_path="source/" + name, overall_grade="5.0",
        scores=dict.fromkeys(rubric.DIMENSIONS, 5.0), comments=dict.fromkeys(rubric.DIMENSIONS, "Level."))
if action == "create":
    Store.create(path).close()
if action == "read":
    store = Store(path, read_only=True)
else:
    store = Store(path)
    store.add_advisor(AdvisorPrompt("ansel", "Ansel"))
    store.add_profiles([critique("p%d" % number + action)])
    store.save_profile(critique("c%d" % number + action))
print(json.dumps({each.id: each.scores.get("storytelling") for each in store.profiles()}))
"""


def run(dimensions: int, database: Path, action: str) -> dict[str, Any]:
    """Scores of the ninth dimension by profile, as a release with so many dimensions reads them."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(dimensions), str(database), action],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(done.stdout)
    return values


def test_new_database_has_the_ninth_dimension(tmp_path: Path) -> None:
    database = tmp_path / "mondrian.db"
    assert run(9, database, "create") == {"p9create": 5.0, "c9create": 5.0}
    assert run(9, database, "read") == {"p9create": 5.0, "c9create": 5.0}


def test_existing_database_gains_the_ninth_dimension_when_opened_for_writing(tmp_path: Path) -> None:
    database = tmp_path / "mondrian.db"
    run(8, database, "create")
    assert run(9, database, "read") == {"p8create": None, "c8create": None}
    assert run(9, database, "write") == {"p8create": None, "c8create": None, "p9write": 5.0, "c9write": 5.0}
    assert (tmp_path / f"mondrian.db.backup-{SCHEMA_VERSION}").is_file()


def test_release_without_the_ninth_dimension_still_opens_the_database(tmp_path: Path) -> None:
    database = tmp_path / "mondrian.db"
    run(9, database, "create")
    assert set(run(8, database, "write")) == {"p9create", "c9create", "p8write", "c8write"}
    assert run(9, database, "read")["p8write"] is None
