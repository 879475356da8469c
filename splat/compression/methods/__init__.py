"""Methods from papers, one file each: pruning, vector quantization, sorting, networks."""
