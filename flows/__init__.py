"""The order of the stages and where they stop."""
