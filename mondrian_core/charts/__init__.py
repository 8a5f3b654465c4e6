"""Charts as values: geometry in `Drawing`, written as SVG for pages or as PNG for files and Prefect artifacts."""
