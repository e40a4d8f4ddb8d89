"""What is measured on: data sets of pairs, and where the points of one picture truly lie in the other."""
