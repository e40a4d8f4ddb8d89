"""File and object formats of others: COLMAP, hloc, OpenCV, kornia, scikit-image, OpenSfM, NumPy."""
