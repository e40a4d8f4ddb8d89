"""Recordings with depth and poses, as TUM, ScanNet, 7-Scenes and plain folders store them."""
