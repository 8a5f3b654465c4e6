"""SVG charts for reports, the service and artifacts."""
