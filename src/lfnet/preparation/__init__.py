"""From photos, RGB-D sequences and COLMAP models to scenes: poses, depth, pairs, without anybody's help."""
