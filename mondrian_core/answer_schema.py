"""JSON schemas as grammars: which schemas a constrained answer can follow.

It needs no model, so the service can refuse a schema before a job is queued.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

MAX_SCHEMA_CHARACTERS = 16_000


def compile_json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of a JSON schema, in the spelling of `json.dumps`, with keys in the schema's order.

    Raises:
        ValueError: the schema is invalid, or has a keyword that llguidance can't enforce; with the reason.
    """
    import llguidance

    return llguidance.JsonCompiler(separators=(", ", ": "), whitespace_pattern="").compile(json.dumps(schema))


def schema_problem(schema: Mapping[str, Any]) -> str | None:
    """Why no answer can be made to follow this schema; None when one can.

    An answer is a JSON object, so the schema's root must be one.
    """
    if schema.get("type") != "object":
        return 'its root must have "type": "object"'
    try:
        if len(json.dumps(schema)) > MAX_SCHEMA_CHARACTERS:
            return f"it is longer than {MAX_SCHEMA_CHARACTERS:,} characters"
        grammar = compile_json_grammar(schema)
    except (ValueError, RecursionError) as error:
        return str(error).strip().splitlines()[-1] or type(error).__name__
    import llguidance

    return llguidance.LLMatcher.validate_grammar(grammar) or None
