"""Pairs that are drawn: random scenes by analytic ray casting, with exact depth and poses."""
