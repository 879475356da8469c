"""Photos by strangers: masks of passers-by, and the appearance of photos outside the training set."""
