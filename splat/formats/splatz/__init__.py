"""Our own container .splatz (docs/splatz.md)."""
