"""`mondrian adapters ...`: the adapter registry on the command line."""
