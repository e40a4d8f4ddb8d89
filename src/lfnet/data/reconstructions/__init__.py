"""What structure from motion leaves: COLMAP models, and the collections of photographs built on them."""
