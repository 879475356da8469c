"""Search for the smallest file within a goal, and the split of bits among attributes."""
