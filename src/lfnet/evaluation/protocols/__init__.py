"""How it is measured: matching, pose, homography, structure from motion, cost, and the metrics they share."""
