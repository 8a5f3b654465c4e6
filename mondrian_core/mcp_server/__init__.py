"""The Model Context Protocol server: an advisor's critiques as tools and resources of other programs."""
