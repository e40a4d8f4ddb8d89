"""What is measured: LF-Net, OpenCV's features, those of others, and features files."""
