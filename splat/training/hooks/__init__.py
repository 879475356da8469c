"""Methods that plug into the trainer beside the strategy, one file each."""
