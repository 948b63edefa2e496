"""The statistics of one signal of one arm: sums, posterior, and telling that it has changed."""
