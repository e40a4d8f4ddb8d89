"""Faults on purpose: failing file operations, kills, and spoiled inputs."""
