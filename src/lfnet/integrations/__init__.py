"""File and object formats of others: hloc's HDF5 and OpenCV's keypoints."""
