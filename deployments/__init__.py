"""Everything that puts the flows on a machine."""
