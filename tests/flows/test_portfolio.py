"""The deployments `index/portfolio` and `synthesize/drafts` by a real worker on mini."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments import prefect_setup, run_watcher
from deployments.bootstrap import RunningPrefect
from mondrian_core.data.sample_workspace import create_workspace
from mondrian_core.stages import IndexSummary, SynthesizeSummary
from mondrian_core.store import Store
from mondrian_core.store.drafts import DraftStore
from mondrian_core.store.embeddings import EmbeddingStore
from tasks.index import index_markdown
from tasks.synthesize import drafts_markdown

LEFT_OUT = [{"path": "source/a|b.jpg", "reason": "the photograph's file is empty"}]


def test_the_pages_put_the_outcome_first_and_the_next_step_last() -> None:
    page = index_markdown(IndexSummary(photographs=9, known=4, embedded=5, scored=2, left_out=LEFT_OUT, base="ab" * 32))
    assert page.startswith("## 9 photographs in the index, 5 of them new")
    assert "source/a\\|b.jpg" in page and "abababababab" in page and "ab" * 32 not in page
    page = drafts_markdown(
        SynthesizeSummary(drafted=3, known=1, remaining=7, calibrated_on=24, waiting=4, left_out=[]), "ansel"
    )
    assert page.startswith("## 3 critiques drafted, 4 wait")
    assert page.endswith("`mondrian review --advisor ansel`") and "| reason |" not in page


@pytest.mark.flow
@pytest.mark.mini
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_index_and_synthesize_flows_create_pages(machine: RunningPrefect, tmp_path: Path) -> None:
    sample = tmp_path / "workspace"
    create_workspace(sample, sample=True, photographs=12)
    recipe = {"synthesize": {"photographs": 2, "calibration_photographs": 5}, "evaluate": {"max_tokens": 300}}
    given: dict[str, Any] = {"advisor": "ansel", "workspace": str(sample), "base_model": "mini", "recipe": recipe}
    for name in ("index/portfolio", "synthesize/drafts"):
        run = run_watcher.start_deployment_run(machine.place, name, given)
        seen = run_watcher.follow_flow_run(machine.place, run, lambda glance: None)
        assert seen.state == "Completed", seen.message
    with Store(sample / "mondrian.db", read_only=True) as store:
        assert len(EmbeddingStore(store).find("ansel")) == 14
        assert len(DraftStore(store).waiting("ansel")) == 2
    with prefect_setup.prefect_client(machine.place) as client:
        found = {each.key: str(each.data) for each in client.read_artifacts() if each.key}
    assert "14 photographs in the index, 14 of them new" in found["index-ansel"]
    assert "2 critiques drafted, 2 wait" in found["drafts-ansel"]
