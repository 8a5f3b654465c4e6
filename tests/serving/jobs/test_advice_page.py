"""A critique with advice on its way from the model's answer to JSON and page."""

from __future__ import annotations

from typing import Any

from mondrian_core.rubric import DIMENSIONS, AnswerForm, Assessment, Critique, canonical_answer
from tests.serving.jobs.test_feedback import client, critique, service  # noqa: F401  (fixtures)

COMMENTS = (
    "The fence leads the eye out of the frame.",
    "Soft light from the left models the bark.",
    "The bark is crisp down to the roots.",
    "Ochre and slate answer each other.",
    "The trunk stands clear of the hill.",
    "Three planes recede into mist.",
    "Weight gathers at the right edge.",
    "A quiet morning, seen with patience.",
)
PRIORITIES = ("Step left until the fence leaves the frame.", "Wait for <side> light.")


def test_advice_comes_through_to_json_and_page(client: Any, control: Any, photograph: Any) -> None:  # noqa: F811
    box = (0.1, 0.2, 0.5, 0.9)
    taught = Critique(
        {name: Assessment(4, text, f"Try {name}.", (box,)) for name, text in zip(DIMENSIONS, COMMENTS, strict=True)},
        "4.0",
        strengths=("Calm light on the water.", "The tree stands free."),
        priority_improvements=PRIORITIES,
    )
    control(texts=[canonical_answer(taught, AnswerForm.ADVICE)])
    answered = critique(client, photograph())
    assert answered["critique"] == taught.as_dict()
    assert answered["strengths"] == list(taught.strengths)
    assert answered["dimensional_analysis"]["lighting"]["regions"] == [list(box)], "fractions outside the model"
    page = client.get(f"/jobs/{answered['job_id']}?format=html").text
    assert "<h2>Priority improvements</h2>" in page and "Wait for &lt;side&gt; light." in page
    assert "<h2>Strengths</h2>" in page and "Try depth_perspective." in page
    assert page.count(PRIORITIES[0]) == 1
