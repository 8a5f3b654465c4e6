"""The pairs of answers that a person's judgements of advice make, as a part of a dataset version.

Their photographs need no critique by the advisor, so they aren't rows of a split. They are stored in `advice_pairs/`
with the answers, and each pair names the photographs of the dataset that it must stay with: its own and all
near-duplicates. So no pair of a held-out photograph is learned from, whatever is held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mondrian_core.data.dataset.token_budget import TokenBudget
from mondrian_core.data.linking.link_manifest import AdvicePreference
from mondrian_core.errors import BadInput, BadPhotograph
from mondrian_core.events import EventListener, StageNotice
from mondrian_core.images import downscale_to_fit, jpeg_bytes, open_photograph
from mondrian_core.near_duplicates import PhotographFingerprint, near_duplicates_of, photograph_fingerprint
from mondrian_core.prompts import AdvisorPrompt, training_messages
from mondrian_core.rubric import AnswerForm

ADVICE_PAIRS = "advice_pairs"  # folder, and key of the manifest and of what the digest covers


@dataclass(frozen=True, eq=False, kw_only=True)
class AdvicePairExample:
    """A pair before it is written.

    Attributes:
        preference: the answers.
        jpeg: the photograph, encoded.
        related: photo ids in the dataset that show the same, its own included where it is one of them.
    """

    preference: AdvicePreference
    jpeg: bytes
    related: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """What is learned from it, and with which photographs it is held out; plain values."""
        preference = self.preference
        return {
            "kind": preference.kind,
            "record": preference.record,
            "lineage": preference.sha256,
            "dimension": preference.dimension,
            "chosen": preference.chosen,
            "rejected": preference.rejected,
            "related": list(self.related),
        }


@dataclass(frozen=True, kw_only=True)
class AdvicePairPreparation:
    """What the pairs of a dataset depend on besides a person's judgements.

    Attributes:
        advisor_prompt: the prompt of every pair.
        workspace: folder that photographs are relative to.
        budget: how long an answer may be; None: as long as it is.
        members: the photographs of the dataset.
        groups: photo id -> group of near-duplicates, of these photographs.
    """

    advisor_prompt: AdvisorPrompt
    workspace: Path
    budget: TokenBudget | None
    members: Sequence[PhotographFingerprint]
    groups: Mapping[str, str]

    def prepare(self, preferences: Sequence[AdvicePreference], listen: EventListener) -> list[AdvicePairExample]:
        """The pairs, ordered by photo id; none for answers without advice. Each photograph is opened once.

        Pairs are left out with a notice, also where a photograph can't be opened or an answer is too long.

        Raises:
            BadInput: when a photograph changed after it was linked.
        """
        if preferences and self.advisor_prompt.form is AnswerForm.COMMENTS:
            message = f"{len(preferences)} pairs of judged advice are left out: the answers of this dataset hold none."
            listen(StageNotice("dataset", message))
            return []
        by_photograph: dict[str, list[AdvicePreference]] = {}
        for preference in preferences:
            by_photograph.setdefault(preference.sha256, []).append(preference)
        found: list[AdvicePairExample] = []
        for photo_id, some in sorted(by_photograph.items()):
            try:
                found += self._pairs_of(photo_id, some)
            except BadPhotograph as error:
                listen(StageNotice("dataset", f"The judgements of {some[0].photograph} are left out: {error.problem}"))
        if missing := len(preferences) - len(found):
            listen(StageNotice("dataset", f"{missing} of {len(preferences)} pairs of judged advice are left out."))
        return found

    def _pairs_of(self, photo_id: str, preferences: Sequence[AdvicePreference]) -> list[AdvicePairExample]:
        path = preferences[0].photograph
        photograph = open_photograph(self.workspace / path)
        if photograph.sha256 != photo_id:
            raise BadInput(f"{path} changed after it was linked.", "Link again, then build the dataset.")
        image = downscale_to_fit(photograph.image)
        related = self._related(photograph_fingerprint(photo_id, photograph.image))
        jpeg = jpeg_bytes(image)
        return [
            AdvicePairExample(preference=each, jpeg=jpeg, related=related)
            for each in preferences
            if not any(self._is_too_long(image, answer) for answer in (each.chosen, each.rejected))
        ]

    def _related(self, fingerprint: PhotographFingerprint) -> tuple[str, ...]:
        known = fingerprint.photo_id in self.groups  # then its near-duplicates are known too
        found = {fingerprint.photo_id} if known else near_duplicates_of([fingerprint], self.members)
        together = {self.groups[photo_id] for photo_id in found}
        return tuple(sorted(photo_id for photo_id, group in self.groups.items() if group in together))

    def _is_too_long(self, image: Image.Image, answer: str) -> bool:
        if self.budget is None:
            return False
        return bool(self.budget.problem(training_messages(self.advisor_prompt, answer), image, answer))
