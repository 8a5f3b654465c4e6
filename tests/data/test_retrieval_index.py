"""The retrieval index: complete, resumable, for retrieval only, never mixed with critiques by people."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mondrian_core.data.base_model_critic import BaseModelCritic
from mondrian_core.data.linking.link import ExclusionReason, link_critiques
from mondrian_core.data.linking.photograph_files import paths_outside_other_portfolios, portfolio_owner, portfolio_paths
from mondrian_core.data.retrieval_index import build_index, index_profile_id
from mondrian_core.errors import BadInput, NothingToDo
from mondrian_core.events import StageEvent, StageProgressed
from mondrian_core.image_alignment import comparison_thumbnail
from mondrian_core.store import Store
from mondrian_core.store.embeddings import Embedding, EmbeddingStore
from tests.data.stand_in import VOICE, Stub, jpeg, picture, profile, workspace_of

PORTFOLIO = "source/advisor/photographer/ansel"


def portfolio_of(folder: Path, names: list[str], advisor: str = "ansel") -> None:
    home = folder / "source" / "advisor" / "photographer" / advisor
    home.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (home / name).write_bytes(jpeg(800 + number, (96 + number, 64)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three critiqued photographs outside the portfolio, four in it: one of them critiqued."""
    made = workspace_of(tmp_path, 3)
    portfolio_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    made.add_profiles([profile(50, f"{PORTFOLIO}/a.jpg")])
    return made


def test_index_embeds_every_photograph_and_scores_only_uncritiqued_ones(tmp_path: Path, store: Store) -> None:
    stub = Stub()
    done = build_index(store, tmp_path, "ansel", stub)
    assert (done.photographs, done.embedded, done.scored, done.known, done.left_out) == (7, 7, 3, 0, ())
    assert (stub.looked, stub.scored) == (7, 3)
    made = [each for each in store.profiles("ansel") if each.origin == "index"]
    assert {each.image_path for each in made} == {f"{PORTFOLIO}/{name}.jpg" for name in "bcd"}
    entries = EmbeddingStore(store).find("ansel", "stub")
    assert {Path(each.image_path).name for each in entries} == {
        "a.jpg",
        "b.jpg",
        "c.jpg",
        "d.jpg",
        *(f"photo_{n}.jpg" for n in range(3)),
    }
    assert all(abs(math.hypot(*each.vector) - 1) < 1e-6 for each in entries)


def test_linking_always_excludes_index_profiles(tmp_path: Path, store: Store) -> None:
    before = link_critiques(store, tmp_path, "ansel")
    build_index(store, tmp_path, "ansel", Stub())
    after = link_critiques(store, tmp_path, "ansel")
    assert after.used == before.used
    assert [each.reason for each in after.left_out] == [ExclusionReason.INDEX_MADE] * 3


def test_second_index_run_changes_nothing(tmp_path: Path, store: Store) -> None:
    build_index(store, tmp_path, "ansel", Stub())
    before = [store.profiles("ansel"), EmbeddingStore(store).find("ansel")]
    stub = Stub()
    done = build_index(store, tmp_path, "ansel", stub)
    assert (done.photographs, done.known, done.embedded, stub.looked) == (7, 7, 0, 0)
    assert [store.profiles("ansel"), EmbeddingStore(store).find("ansel")] == before


@pytest.mark.parametrize("after", [1, 4])
def test_interrupted_index_run_resumes(tmp_path: Path, store: Store, after: int) -> None:
    class Interrupted(Stub):
        def analyze_photograph(self, image: Image.Image, *, critique: bool) -> object:  # type: ignore[override]
            if self.looked == after:
                raise KeyboardInterrupt
            return super().analyze_photograph(image, critique=critique)

    with pytest.raises(KeyboardInterrupt):
        build_index(store, tmp_path, "ansel", Interrupted())
    assert len(EmbeddingStore(store).find("ansel")) == after
    events: list[StageEvent] = []
    done = build_index(store, tmp_path, "ansel", Stub(), events.append)
    assert (done.known, done.embedded) == (after, 7 - after)
    steps = [event for event in events if isinstance(event, StageProgressed)]
    assert [(event.done, event.total) for event in steps] == [(n + 1, 7 - after) for n in range(7 - after)]


def test_another_base_adds_vectors_and_replaces_scores(tmp_path: Path, store: Store) -> None:
    build_index(store, tmp_path, "ansel", Stub("one"))
    done = build_index(store, tmp_path, "ansel", Stub("two"))
    assert done.embedded == 7
    assert len(EmbeddingStore(store).find("ansel")) == 14
    assert len(EmbeddingStore(store).find("ansel", "two")) == 7
    assert sum(each.origin == "index" for each in store.profiles("ansel")) == 3


def test_unusable_files_are_reported_and_skipped(tmp_path: Path, store: Store) -> None:
    home = tmp_path / PORTFOLIO
    (home / "page.jpg").write_text("<html>404</html>")
    (home / "empty.png").write_bytes(b"")
    (home / "._ghost.jpg").write_bytes(b"x")
    (home / "notes.txt").write_text("not a photograph, and not named like one")
    shutil.copy(home / "b.jpg", home / "copy.jpg")
    done = build_index(store, tmp_path, "ansel", Stub(unreadable=((98, 64),)))
    reasons = {Path(each.path).name: each.reason for each in done.left_out}
    assert set(reasons) == {"page.jpg", "empty.png", "copy.jpg", "c.jpg"}
    assert "b.jpg" in reasons["copy.jpg"] and reasons["c.jpg"] == "it mumbles"
    assert "HTML" in reasons["page.jpg"] and "empty" in reasons["empty.png"]
    assert done.photographs == done.embedded == 6


def test_later_human_critique_is_used_and_index_profile_is_not(tmp_path: Path, store: Store) -> None:
    build_index(store, tmp_path, "ansel", Stub())
    store.add_profiles([profile(60, f"{PORTFOLIO}/b.jpg")])
    assert "profile:p60" in {each.record for each in link_critiques(store, tmp_path, "ansel").used}
    stub = Stub()
    assert build_index(store, tmp_path, "ansel", stub).embedded == 0 == stub.looked


def test_index_leaves_other_advisors_unchanged(tmp_path: Path, store: Store) -> None:
    portfolio_of(tmp_path, ["w.jpg"], "watkins")
    assert portfolio_paths(tmp_path, "watkins") == ["source/advisor/photographer/watkins/w.jpg"]
    build_index(store, tmp_path, "ansel", Stub())
    assert not [each for each in EmbeddingStore(store).find("ansel") if "watkins" in each.image_path]
    assert "source/advisor/photographer/watkins/w.jpg" not in paths_outside_other_portfolios(tmp_path, "ansel")
    assert portfolio_owner("source/photo_1.jpg") is None and portfolio_owner(f"{PORTFOLIO}/2019/x.jpg") == "ansel"


def test_index_without_photographs_has_nothing_to_do(tmp_path: Path) -> None:
    with workspace_of(tmp_path, 0) as empty, pytest.raises(NothingToDo, match="--advisor ansel --portfolio"):
        build_index(empty, tmp_path, "ansel", Stub())


def test_embedding_round_trip_is_exact(tmp_path: Path, store: Store) -> None:
    vector = tuple(float(np.float32(value)) for value in np.random.default_rng(0).normal(size=33))
    entry = Embedding(
        advisor="ansel",
        sha256="ab",
        image_path="source/x.jpg",
        base="base",
        perceptual_hashes=(2**64 - 1, 0),
        vector=vector,
        thumbnail=comparison_thumbnail(picture(1, (320, 240))),
    )
    EmbeddingStore(store).save(entry)
    assert EmbeddingStore(store).find("ansel", "base") == [entry]


def test_entries_of_an_older_release_are_read_and_indexed_again(tmp_path: Path, store: Store) -> None:
    build_index(store, tmp_path, "ansel", Stub())
    with store.transaction() as connection:
        connection.execute("UPDATE embeddings SET thumbnail = NULL WHERE image_path LIKE '%a.jpg'")
    assert sum(each.thumbnail is None for each in EmbeddingStore(store).find("ansel")) == 1
    assert build_index(store, tmp_path, "ansel", Stub()).embedded == 1
    assert all(each.thumbnail is not None for each in EmbeddingStore(store).find("ansel"))


def test_database_without_thumbnails_is_read(tmp_path: Path, store: Store) -> None:
    build_index(store, tmp_path, "ansel", Stub())
    with store.transaction() as connection:
        connection.execute("ALTER TABLE embeddings DROP COLUMN thumbnail")
    assert [each.thumbnail for each in EmbeddingStore(store).find("ansel")] == [None] * 7


def test_database_without_embeddings_table_has_no_entries(legacy_workspace_copy: Path) -> None:
    with Store(legacy_workspace_copy / "mondrian.db", read_only=True) as old:
        assert EmbeddingStore(old).find("ansel") == []


# --- with the model ---------------------------------------------------------------------------------------------------


@pytest.mark.mini
def test_index_with_mini_model(tmp_path: Path) -> None:
    """Real scores, and vectors that put a photograph next to its own mirror image."""
    from mondrian_core.mini import rendered_photographs
    from mondrian_core.models.base_model import load_base

    with workspace_of(tmp_path, 0) as store:
        home = tmp_path / PORTFOLIO
        home.mkdir(parents=True)
        pictures = rendered_photographs(4, seed=5)
        for number, image in enumerate(pictures):
            image.save(home / f"{number}.png")
        base = load_base("mini")
        critic = BaseModelCritic(base, VOICE, 512)
        done = build_index(store, tmp_path, "ansel", critic)
        assert (done.embedded, done.scored) == (4, 4)
        entries = EmbeddingStore(store).find("ansel", base.fingerprint)
        rows = np.array([each.vector for each in entries])
        near = 0
        for row, image in enumerate(pictures):
            mirrored = critic.analyze_photograph(
                image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), critique=False
            ).embedding
            near += int(np.argmax(rows @ np.array(mirrored)) == row)
        assert near >= 3
        made = store.profiles("ansel")
        assert {each.id for each in made} == {index_profile_id("ansel", each.sha256) for each in entries}
        assert len({tuple(each.scores.values()) for each in made}) == 4
        assert any(not float(score).is_integer() for each in made for score in each.scores.values())


@pytest.mark.mini
def test_prompt_without_photograph_has_no_embedding() -> None:
    from mondrian_core.models.base_model import load_base
    from mondrian_core.models.image_embedding import photo_embedding
    from mondrian_core.models.inference.generation import prepare_prompt

    base = load_base("mini")
    with pytest.raises(BadInput, match="photograph"):
        photo_embedding(prepare_prompt(base, [{"role": "user", "content": [{"type": "text", "text": "Hello."}]}], None))
