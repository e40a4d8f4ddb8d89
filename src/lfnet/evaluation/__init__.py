"""Measuring features against known geometry: metrics, baselines, protocols, results."""
