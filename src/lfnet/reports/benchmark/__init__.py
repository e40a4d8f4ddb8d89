"""A benchmark's results as words, tables, charts and a page."""
