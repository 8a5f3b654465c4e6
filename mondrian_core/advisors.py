"""Advisors of a workspace: derive an ID from a name, add, edit and remove, and count what belongs to each.

Removing an advisor deletes one row of the table `advisors`. Critiques, photographs and adapters are never deleted; an
advisor added again with the same ID has them again.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mondrian_core.errors import BadInput, UnknownAdvisor
from mondrian_core.next_steps import AdvisorCounts, quoted_command, retrain_step
from mondrian_core.prompts import AdvisorPrompt
from mondrian_core.registry import Registry
from mondrian_core.settings import ADVISOR_ID, ALL_ADVISORS, validate_advisor_id
from mondrian_core.store import Store
from mondrian_core.store.photographs import Photographs

MAX_NAME_LENGTH = 200
MAX_BIO_LENGTH = 4_000
MAX_PROMPT_LENGTH = 8_000  # characters; about 2,000 tokens, half of what a training row may have
_MAX_ID_LENGTH = 64
_LATIN_LETTER = re.compile(r"LATIN SMALL LETTER (?:DOTLESS )?([A-Z]{1,2})(?: WITH .+)?")
_ETH_AND_THORN = {"ð": "d", "þ": "th"}
_MODEL_MARKUP = re.compile(r"<\|[^|<>]*\|>|<image>|<video>", re.IGNORECASE)
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories
_JOINERS = "\u200c\u200d"  # needed to write Persian and several Indian scripts


@dataclass(frozen=True)
class AdvisorChanges:
    """New values for an advisor; None keeps the present one, an empty prompt removes it."""

    name: str | None = None
    bio: str | None = None
    prompt: str | None = None


class AdvisorInUse(BadInput):
    """An advisor can't be removed without saying what happens to what belongs to it."""


def advisor_id_from_name(name: str) -> str:
    """The ID for a name: Latin letters without accents, digits, and one "-" between words.

    "Sebastião Salgado" becomes "sebastiao-salgado", "Søren Ærø" "soren-aero". Letters of other scripts have no spelling
    that everybody agrees on, so they are left out.

    Raises:
        BadInput: no letter or digit is left.
    """
    folded = unicodedata.normalize("NFKD", name.casefold().replace("'", "").replace("\u2019", ""))
    spelled = "".join(_latin_spelling(letter) for letter in folded)
    found = re.sub(r"[^a-z0-9]+", "-", spelled).strip("-")[:_MAX_ID_LENGTH].strip("-")
    if not found:
        raise BadInput(
            f"No ID can be derived from the name '{name[:80]}', which has no Latin letters or digits.",
            f"Choose one: {quoted_command('advisors', 'add', name[:80], '--id', 'moriyama')}.",
        )
    return found


def _latin_spelling(letter: str) -> str:
    """The letter in a-z, "" for an accent, a blank for everything that isn't a Latin letter or a digit."""
    if letter.isascii():
        return letter
    if unicodedata.combining(letter):
        return ""
    if letter in _ETH_AND_THORN:
        return _ETH_AND_THORN[letter]
    latin = _LATIN_LETTER.fullmatch(unicodedata.name(letter, ""))
    return latin[1].lower() if latin else " "


def add_advisor(store: Store, name: str, *, advisor_id: str | None = None, bio: str = "", prompt: str = "") -> str:
    """Add an advisor and return the ID.

    Args:
        store: opened for writing.
        name: as the advisor is called in prompts and on pages.
        advisor_id: None: derived from the name.
        bio: a few sentences about the advisor.
        prompt: the system message; "": made from name and biography.

    Raises:
        BadInput: a text is unusable, or the ID is taken.
    """
    checked = _checked_text("name", name, MAX_NAME_LENGTH, lines=False)
    if not checked:
        raise BadInput("The advisor's name is empty.", "Give a name, such as 'Ansel Adams'.")
    identity = validate_advisor_id(advisor_id) if advisor_id else advisor_id_from_name(checked)
    if identity == ALL_ADVISORS:
        raise BadInput(f"The ID '{ALL_ADVISORS}' stands for all advisors.", "Give another with --id.")
    made = AdvisorPrompt(
        identity,
        checked,
        _checked_text("biography", bio, MAX_BIO_LENGTH),
        _checked_text("prompt", prompt, MAX_PROMPT_LENGTH) or None,
    )
    with store.transaction():
        if (owner := store.advisor_names().get(identity)) is not None:
            raise BadInput(
                f"The ID '{identity}' is taken by {owner}.",
                f"Give another with --id, or change that advisor: {quoted_command('advisors', 'edit', identity)}.",
            )
        store.add_advisor(made)
    return identity


def edit_advisor(store: Store, advisor: str, changes: AdvisorChanges) -> tuple[AdvisorPrompt, bool]:
    """Change an advisor; returns the new values, and whether the system message of prompts changed.

    Raises:
        UnknownAdvisor: there is no such advisor.
        BadInput: a text is unusable.
    """
    with store.transaction():
        before = store.advisor(advisor)
        after = before
        if changes.name is not None:
            after = replace(after, name=_checked_text("name", changes.name, MAX_NAME_LENGTH, lines=False))
        if changes.bio is not None:
            after = replace(after, bio=_checked_text("biography", changes.bio, MAX_BIO_LENGTH))
        if changes.prompt is not None:
            after = replace(after, prompt=_checked_text("prompt", changes.prompt, MAX_PROMPT_LENGTH) or None)
        if not after.name:
            raise BadInput("The advisor's name is empty.", "Give a name, such as 'Ansel Adams'.")
        if after != before:
            store.add_advisor(after)
    return after, after.system_message != before.system_message


def remove_advisor(store: Store, registry: Registry, advisor: str, *, keep_data: bool) -> AdvisorCounts:
    """Remove an advisor from the list; returns what is kept.

    Args:
        store: opened for writing.
        registry: of adapters.
        advisor: ID.
        keep_data: remove it although critiques, photographs or adapters exist; they stay where they are.

    Raises:
        UnknownAdvisor: there is no such advisor.
        AdvisorInUse: something belongs to it, and `keep_data` is False.
    """
    with store.transaction():
        if advisor not in (known := store.advisor_names()):
            raise UnknownAdvisor(advisor, sorted(known))
        counts = count_for_advisor(store, registry, advisor)
        if has_data(counts) and not keep_data:
            own = replace(counts, photographs=counts.own_photographs)
            raise AdvisorInUse(
                f"'{advisor}' has {describe_counts(own)}.",
                "Remove only the entry and keep all of that: "
                f"{quoted_command('advisors', 'remove', advisor, '--keep-data')}.",
            )
        store.remove_advisor(advisor)
    return counts


def has_data(counts: AdvisorCounts) -> bool:
    """True when anything in the workspace or the registry belongs to the advisor alone."""
    return bool(counts.critiques or counts.own_photographs or counts.versions)


def changed_prompt_note(counts: AdvisorCounts) -> str:
    """What a changed system message means for the adapters; "" without any."""
    if not counts.versions:
        return ""
    who = counts.active_version or "The existing versions"
    was = "was" if counts.active_version else "were"
    return f"{who} {was} trained with the earlier prompt. {retrain_step(counts.advisor)}"


def describe_counts(counts: AdvisorCounts) -> str:
    """For example "12 critiques, 1 photograph and 2 adapter versions"; "nothing yet" without any."""
    parts = [
        f"{count:,} {word}{'' if count == 1 else 's'}"
        for count, word in (
            (counts.critiques, "critique"),
            (counts.photographs, "photograph"),
            (counts.versions, "adapter version"),
        )
        if count
    ]
    if not parts:
        return "nothing yet"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def count_for_advisor(store: Store, registry: Registry, advisor: str) -> AdvisorCounts:
    """What the workspace holds of one advisor, also of one that is not in the table."""
    return counts_of_advisor(workspace_tally(store), registry, advisor)


@dataclass(frozen=True)
class WorkspaceTally:
    """The number of critiques by advisor, and the photographs."""

    critiques: Mapping[str, int]
    photographs: Photographs


def workspace_tally(store: Store) -> WorkspaceTally:
    """Count once for all advisors; critiques without those that the base model made for the retrieval index."""
    critiques = Counter(profile.advisor for profile in store.profiles() if profile.origin != "index")
    return WorkspaceTally(critiques, Photographs(store))


def counts_of_advisor(tally: WorkspaceTally, registry: Registry, advisor: str) -> AdvisorCounts:
    """As `count_for_advisor`, with everything in the workspace counted already."""
    named = ADVISOR_ID.fullmatch(advisor) is not None  # an ID from an older database may name no folder
    return AdvisorCounts(
        advisor=advisor,
        photographs=tally.photographs.count(advisor),
        own_photographs=tally.photographs.count_own(advisor),
        critiques=tally.critiques.get(advisor, 0),
        versions=len(registry.versions(advisor)) if named else 0,
        active_version=registry.current(advisor) if named else None,
    )


def given_id(text: str) -> str | None:
    """An ID that was typed into a form, checked; None for an empty field.

    Raises:
        BadInput: it is not a valid ID.
    """
    return validate_advisor_id(text.strip()) if text.strip() else None


def _checked_text(kind: str, text: str, most: int, *, lines: bool = True) -> str:
    """The text in NFC without outer blanks, checked to be readable and harmless in a prompt.

    Raises:
        BadInput: it is too long, has invisible characters, or markup that the model's template gives a meaning.
    """
    cleaned = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
    if len(cleaned) > most:
        raise BadInput(f"The {kind} has {len(cleaned):,} characters; at most {most:,} fit.", "Shorten it.")
    allowed = "\n\t" + _JOINERS if lines else _JOINERS
    odd = next((char for char in cleaned if unicodedata.category(char) in _INVISIBLE and char not in allowed), None)
    if odd is not None:
        where = "a line break" if odd == "\n" else f"the invisible character U+{ord(odd):04X}"
        raise BadInput(f"The {kind} contains {where}.", "Remove it, or type the text again.")
    if markup := _MODEL_MARKUP.search(cleaned):
        raise BadInput(
            f"The {kind} contains {markup[0][:40]}, which the model reads as an instruction of its own.",
            "Remove it.",
        )
    return cleaned
