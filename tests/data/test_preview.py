"""The row preview shows what the model reads: real tokenizer, template and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mondrian_core.data.dataset.builder import BuildLimits, build_dataset
from mondrian_core.data.dataset.preview import ANSWER, PHOTOGRAPH, PROMPT, RowPreview, preview_row
from mondrian_core.data.dataset.token_budget import RowLength, TokenBudget, check_row_lengths
from mondrian_core.data.linking.link import link_critiques
from mondrian_core.dataset_types import DatasetRow
from mondrian_core.errors import BadInput
from mondrian_core.models.base_model import load_base
from mondrian_core.models.prompt_encoding import EncodedAnswer
from mondrian_core.models.token_counting import make_token_counter
from mondrian_core.prompts import training_messages
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, make_critique
from mondrian_core.training_target import training_target
from tests.data.stand_in import VOICE, jpeg, profile, workspace_of

pytestmark = pytest.mark.mini


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetRow, RowPreview]:
    folder = tmp_path_factory.mktemp("preview")
    with workspace_of(folder, 4) as store:
        row = build_dataset(link_critiques(store, folder, "ansel"), VOICE, DataRecipe(), folder).rows("train")[0]

    def weigh(row: DatasetRow, answer: EncodedAnswer) -> list[float]:
        return [1.0] * (len(answer.ids) - 1) + [2.0]

    return row, preview_row(load_base("mini"), row, weigh)


def test_preview_contains_the_exact_answer_and_end_token(seen: tuple[DatasetRow, RowPreview]) -> None:
    row, shown = seen
    text = "".join(piece.text for piece in shown.spans if piece.kind == ANSWER)
    assert text == row.answer + "<|im_end|>"
    prompt = "".join(piece.text for piece in shown.spans if piece.kind == PROMPT)
    assert row.messages[0]["content"][0]["text"] in prompt
    assert row.messages[1]["content"][0]["text"] in prompt
    assert "<image>" not in prompt


def test_preview_weights_only_answer_tokens(seen: tuple[DatasetRow, RowPreview]) -> None:
    _, shown = seen
    assert all((piece.weight > 0) == (piece.kind == ANSWER) for piece in shown.spans)
    assert shown.spans[-1].text == "<|im_end|>"
    assert shown.spans[-1].weight == 2.0


def test_preview_token_counts_add_up(seen: tuple[DatasetRow, RowPreview]) -> None:
    _, shown = seen
    assert shown.count(PROMPT) + shown.count(PHOTOGRAPH) + shown.count(ANSWER) == shown.total
    assert shown.count(PHOTOGRAPH) > 1
    counts = json.loads(json.dumps(shown.as_dict()))["tokens"]
    assert counts["total"] == shown.total


def test_token_counter_matches_encoded_row(seen: tuple[DatasetRow, RowPreview]) -> None:
    """The token counter without weights agrees with the tokens that training uses."""
    row, shown = seen
    assert RowLength(*make_token_counter("mini")(row.messages, row.image, row.answer)) == shown.length


def test_overlong_row_is_reported_with_its_token_counts() -> None:
    check_row_lengths(
        [("a", RowLength(80, 16, 5)), ("b", RowLength(80, 16, 4))], 100
    )  # the last token is only predicted
    with pytest.raises(BadInput, match="2 rows don't fit into the 99 tokens") as caught:
        check_row_lengths([("a", RowLength(80, 16, 5)), ("b", RowLength(80, 36, 4)), ("c", RowLength(1, 1, 1))], 99)
    assert "b has 120 tokens (80 of instructions, 36 of the photograph, 4 of the answer); a has 101" in str(
        caught.value
    )


def test_overlong_critiques_are_left_out_and_named(tmp_path: Path) -> None:
    """A model trained on longer answers than allowed would be truncated wherever it answers."""
    measure = make_token_counter("mini")
    dense = "光线柔和而有层次。" * 20  # 180 characters, three tokens each for mini
    long = {"p9": "The ridge runs on and on. " * 30, "p8": dense, "p7": "The ridge runs on and on. " * 12}
    with workspace_of(tmp_path, 4) as store:
        for record, comment in long.items():
            number = int(record[1:])
            (tmp_path / "source" / f"photo_{number}.jpg").write_bytes(jpeg(number))
            store.add_profiles([profile(number, comments=dict.fromkeys(DIMENSIONS, comment))])
        manifest = link_critiques(store, tmp_path, "ansel")

    def fit(limit: int) -> TokenBudget:
        return TokenBudget(lambda *row: RowLength(*measure(*row)), limit)

    heard: list[str] = []
    built = build_dataset(
        manifest,
        VOICE,
        DataRecipe(),
        tmp_path,
        lambda event: heard.append(str(event)),
        BuildLimits(token_budget=fit(900)),
    )
    left_out = {each["record"]: each["detail"] for each in built.manifest["too_long"]}
    assert left_out.keys() == {"profile:p9", "profile:p8", "profile:p7"}
    assert left_out["profile:p9"].startswith("a comment is too long: composition 779,")
    assert "tokens of at most 2,048" in left_out["profile:p8"]
    assert "the recipe allows 900" in left_out["profile:p7"]
    used = {each["record"] for each in built.manifest["members"]}
    assert len(used) == 4 and not used & left_out.keys()
    assert any("3 critiques are left out as too long" in each and "profile:p9" in each for each in heard)
    assert "3 critiques are too long" in (built.path / "README.md").read_text()
    roomier = build_dataset(manifest, VOICE, DataRecipe(), tmp_path, limits=BuildLimits(token_budget=fit(9000)))
    assert "profile:p7" in {each["record"] for each in roomier.manifest["members"]}
    with pytest.raises(BadInput, match="7 critiques are left out as too long"):
        build_dataset(manifest, VOICE, DataRecipe(), tmp_path, limits=BuildLimits(token_budget=fit(20)))


def test_answers_of_format_1_datasets_are_normalized(tmp_path: Path) -> None:
    """They were written with ASCII escapes, which the grammar of the service can't write."""
    from mondrian_core.data.dataset.version import current_columns, row_from_columns

    critique = make_critique(dict.fromkeys(DIMENSIONS, 7), dict.fromkeys(DIMENSIONS, "It’s weich – 光."))
    escaped = json.dumps(critique.as_dict())
    messages = training_messages(VOICE, escaped)
    row = row_from_columns(
        current_columns(
            {
                "lineage": "a",
                "image": {"bytes": jpeg(1)},
                "messages": messages,
                "answer": escaped,
                "scores": critique.scores,
                "loss_dimensions": DIMENSIONS,
                "weight": 1.0,
            }
        )
    )
    assert row.answer == training_target(critique) != escaped
    assert row.messages == training_messages(VOICE, row.answer)
