"""Reports in Markdown, for pull requests and job summaries."""
