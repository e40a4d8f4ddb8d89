"""Cameras, transforms, sampling and the warp between two views."""
