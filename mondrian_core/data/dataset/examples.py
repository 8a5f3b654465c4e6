"""Dataset rows in memory, before they are written: a photograph, its image variants and paraphrased critiques."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from PIL import Image

from mondrian_core.data.augmentation import image_variants
from mondrian_core.data.augmentation.critique_variants import variant_critique
from mondrian_core.data.augmentation.paraphrase_rules import paraphrase_critique
from mondrian_core.data.dataset.taught_critique import answer_in_form, overlong_texts
from mondrian_core.data.linking.link_manifest import HUMAN, LinkedRecord
from mondrian_core.images import jpeg_bytes
from mondrian_core.near_duplicates import CritiqueFingerprint, critique_fingerprint
from mondrian_core.recipes import DataRecipe
from mondrian_core.rubric import DIMENSIONS, AnswerForm, Critique
from mondrian_core.training_target import training_target

ATTEMPTS_PER_PARAPHRASE = 4


@dataclass(frozen=True, kw_only=True)
class DatasetExample:
    """A row before it is written.

    Attributes:
        photo_id: SHA-256 of the source photograph.
        record: the linked record that the critique comes from.
        variant: what was done to the picture.
        jpeg: the picture, encoded.
        critique: what the row teaches, changed with the picture where it needs that; with the advisor's own scores
            (0-10, fractions kept).
        answer: the taught answer: whole scores, and the grade that belongs to them.
        form: of the answer.
        split: where the row belongs; empty until the photographs are split.
        weight: of the row in the loss; the weights of one photograph sum to 1.
        paraphrase: 0 for the advisor's own words, else the number of the paraphrase.
        origin: who wrote the critique.
        photograph: path below the workspace.
        corrected_critique: the model's critique that a person corrected, on the row of the photograph itself alone.
    """

    photo_id: str
    record: str
    variant: image_variants.ImageVariant
    jpeg: bytes
    critique: Critique
    answer: str
    form: AnswerForm = AnswerForm.COMMENTS
    split: str = ""
    weight: float = 1.0
    paraphrase: int = 0
    origin: str = HUMAN
    photograph: str = ""
    corrected_critique: str = ""

    @property
    def name(self) -> str:
        """What was done to picture and words, such as "mirror" or "original~1" (the first paraphrase)."""
        return f"{self.variant.name}~{self.paraphrase}" if self.paraphrase else self.variant.name

    @property
    def scores(self) -> dict[str, float]:
        """The advisor's own scores (0-10) by dimension."""
        return self.critique.scores

    @property
    def comments(self) -> dict[str, str]:
        """The comments by dimension."""
        return {name: self.critique.assessments[name].comment for name in DIMENSIONS}

    @property
    def critique_fingerprint(self) -> CritiqueFingerprint:
        """What the row teaches, for the contamination check."""
        return critique_fingerprint(self.scores, self.comments)


RowFilter = Callable[[Image.Image, Critique, str], bool]  # picture, critique, answer -> whether the row fits


def answer_text(critique: Critique, form: AnswerForm) -> str:
    """The taught answer to a photograph: canonical JSON with whole scores."""
    return training_target(critique, form)


def original_example(
    record: LinkedRecord, critique: Critique, image: Image.Image, answer: str, form: AnswerForm
) -> DatasetExample:
    """The row of the photograph itself.

    Args:
        record: the linked critique.
        critique: what is taught of it.
        image: the photograph, 8-bit RGB, downscaled as it is stored.
        answer: `answer_text` of `critique`.
        form: of the answer.
    """
    return DatasetExample(
        photo_id=record.sha256,
        record=record.record,
        variant=image_variants.ORIGINAL,
        jpeg=jpeg_bytes(image),
        critique=critique,
        answer=answer,
        form=form,
        origin=record.origin,
        photograph=record.photograph,
        corrected_critique=answer_in_form(record.corrects, form) if record.corrects else "",
    )


def augmented_examples(
    original: DatasetExample, image: Image.Image, recipe: DataRecipe, fits: RowFilter
) -> list[DatasetExample]:
    """The image variants and paraphrases that training adds to a photograph, without the photograph itself.

    They depend on the photograph, its critique and the recipe alone, never on the split or on other photographs.

    Args:
        original: the row of the photograph itself.
        image: the pixels that `original` was encoded from, 8-bit RGB.
        recipe: which variants to make, and how many.
        fits: rows for which it is False are left out.
    """
    return [
        *_image_variants(original, image, recipe, fits),
        *(each for each in _paraphrases(original, recipe) if fits(image, each.critique, each.answer)),
    ]


def _image_variants(
    original: DatasetExample, image: Image.Image, recipe: DataRecipe, fits: RowFilter
) -> list[DatasetExample]:
    examples = []
    for variant in image_variants.plan_variants(original.photo_id, original.comments, recipe)[1:]:
        picture = image_variants.apply_variant(variant, image)
        if picture is None:
            continue
        changed = _with_critique(original, variant_critique(variant, original.critique, image.size))
        if fits(picture, changed.critique, changed.answer):
            examples.append(replace(changed, variant=variant, jpeg=jpeg_bytes(picture)))
    return examples


def _paraphrases(original: DatasetExample, recipe: DataRecipe) -> list[DatasetExample]:
    """The photograph with its critique in other words, up to `recipe.variations` times, all different."""
    examples = {original.critique.texts: original}
    for attempt in range(ATTEMPTS_PER_PARAPHRASE * recipe.variations):
        if len(examples) > recipe.variations:
            break
        seed = image_variants.augmentation_seed(f"words {attempt} {original.photo_id}", recipe.seed)
        varied = paraphrase_critique(original.critique, seed)
        if varied and not overlong_texts(varied) and varied.texts not in examples:
            examples[varied.texts] = replace(_with_critique(original, varied), paraphrase=len(examples))
    return list(examples.values())[1:]


def _with_critique(original: DatasetExample, critique: Critique) -> DatasetExample:
    """The row with this critique and the answer that belongs to it; it corrects nothing."""
    answer = original.answer if critique == original.critique else answer_text(critique, original.form)
    return replace(original, critique=critique, answer=answer, corrected_critique="")
