"""What a kind of file is: where it is, what it is for, and its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Fields: types whose fields are keys, and keys with "type: meaning", which take precedence.
Fields = tuple[Mapping[str, str] | type, ...]


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """One kind of file.

    Attributes:
        name: heading, the path below its root.
        place: glob of such files, from the folder that holds `workspace/`, `adapters/` and `backup/`; "" for a file
            that a retraining doesn't write.
        about: what the file is for.
        fields: its keys.
        inside: keys of the objects in a list or an object, by its key.
        kinds: of a file with a JSON object in each line, what its lines are, by the value of `kind_key`.
        kind_key: the key that says it.
        optional: keys that are missing where they have no value.
    """

    name: str
    about: str
    place: str = ""
    fields: Fields = ()
    inside: Mapping[str, Fields] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    kind_key: str = "kind"
    optional: tuple[str, ...] = ()
