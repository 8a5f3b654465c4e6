"""What most invalid answers have in common: the advice after a FAIL of the format fits it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from mondrian_core.evaluation.gates.results import Cause
from mondrian_core.evaluation.measure.outcomes import LOOP
from mondrian_core.evaluation.measure.samples import EvaluationSamples
from mondrian_core.samples_file import CANDIDATE

_CAUSES: Mapping[str, Cause] = {
    LOOP: Cause.LOOPS,
    "cut": Cause.CUT,
    "empty": Cause.PROSE,
    "not_json": Cause.PROSE,
    "wrong_keys": Cause.WRONG_KEYS,
    "missing_dimensions": Cause.WRONG_KEYS,
    "bad_score": Cause.WRONG_VALUES,
    "score_out_of_range": Cause.WRONG_VALUES,
    "no_comment": Cause.WRONG_VALUES,
    "bad_recommendation": Cause.WRONG_VALUES,
    "bad_regions": Cause.WRONG_VALUES,
    "bad_list": Cause.WRONG_VALUES,
    "bad_grade": Cause.WRONG_VALUES,
    "grade_inconsistent": Cause.WRONG_VALUES,
}
_JSON_KEY = re.compile(r'"[^"]*"\s*:')
_SAME_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}
_FORM = (Cause.PROSE, Cause.WRONG_KEYS)  # where another language may be the reason


def invalid_answers_cause(reasons: Mapping[str, int], samples: EvaluationSamples | None) -> Cause | None:
    """What more than half of the invalid answers have in common; None without such a majority.

    Args:
        reasons: why answers are invalid, with counts.
        samples: the candidate's answers and the critiques that it was trained on, whose scripts are compared.
    """
    causes = Counter[Cause]()
    for reason, count in reasons.items():
        if reason in _CAUSES:
            causes[_CAUSES[reason]] += count
    if not causes:
        return None
    cause, count = causes.most_common(1)[0]
    if 2 * count <= sum(reasons.values()):
        return None
    return Cause.OTHER_SCRIPT if cause in _FORM and samples and _in_another_script(samples) else cause


def _in_another_script(samples: EvaluationSamples) -> bool:
    answers = (each.text for each in samples.outcomes if each.arm == CANDIDATE and each.status == "unparsable")
    written, taught = _main_script(answers), _main_script(samples.training)
    return written is not None and taught is not None and written != taught


def _main_script(texts: Iterable[str]) -> str | None:
    """The most frequent script, such as "LATIN" or "CJK"; None without letters."""
    scripts = Counter(
        _SAME_SCRIPT.get(name, name)
        for text in texts
        for character in _JSON_KEY.sub("", text)
        if character.isalpha()
        for name in [unicodedata.name(character, "").split(" ")[0]]
    )
    return scripts.most_common(1)[0][0] if scripts else None
