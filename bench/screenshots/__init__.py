"""`make screenshots`: every picture of docs/images/, made again from nothing (docs/decisions/0168)."""
