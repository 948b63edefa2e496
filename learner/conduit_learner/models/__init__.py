"""The statistics of one signal of one arm: sums, posterior, and the detection of changes."""
