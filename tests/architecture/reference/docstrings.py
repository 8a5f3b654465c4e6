"""What a docstring in Google style says: its summary, and the texts of the names in one of its sections."""

from __future__ import annotations

import inspect
import re
from typing import Any


def docstring_summary(thing: Any) -> str:
    """The first paragraph on one line; "" without a docstring."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def docstring_names(thing: Any, section: str) -> dict[str, str]:
    """The texts by name of a section such as "Args" or "Attributes"; "before, after: ..." counts for both."""
    match = re.search(rf"^{section}:\n((?:[ \t]+.*\n?|\n)+)", inspect.getdoc(thing) or "", re.MULTILINE)
    found = {}
    for names, text in re.findall(r"^    (\w[\w, ]*): (.*(?:\n {5,}.*)*)", match[1] if match else "", re.MULTILINE):
        found |= dict.fromkeys(re.split(r",\s*", names), " ".join(text.split()))
    return found
