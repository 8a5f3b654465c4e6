"""From an example of a JSON answer to its plain value and its JSON schema."""

from __future__ import annotations

from typing import Any

from mondrian_core.serving.http.api_examples.sample_values import ByKey

OPTIONAL = "?"  # at the end of a key: an answer may have no such key
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def example_value(example: Any) -> Any:
    """The example as plain JSON values, without the marks in its keys and without optional values that are empty."""
    match example:
        case dict():
            return {
                key.removesuffix(OPTIONAL): example_value(value)
                for key, value in example.items()
                if not key.endswith(OPTIONAL) or value not in ("", [], [""])
            }
        case list():
            return [example_value(each) for each in example if each != ""]
        case _:
            return example


def answer_schema(example: Any) -> dict[str, Any]:
    """The JSON schema of answers with the keys and types of an example.

    Any value may be null. None, an empty object and an empty list in the example leave the form of the value open. A
    float is any number.
    """
    match example:
        case None | []:
            return {}
        case ByKey():
            return {"type": ["object", "null"], "additionalProperties": answer_schema(next(iter(example.values())))}
        case dict():
            if not example:
                return {}
            return {
                "type": ["object", "null"],
                "properties": {key.removesuffix(OPTIONAL): answer_schema(each) for key, each in example.items()},
                "required": [key for key in example if not key.endswith(OPTIONAL)],
            }
        case list():
            return {"type": ["array", "null"], "items": answer_schema(example[0])}
        case _:
            return {"type": [_TYPES[type(example)], "null"]}
