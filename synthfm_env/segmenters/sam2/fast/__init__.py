"""Parts of SAM 2 rewritten for speed, each named after the part that it replaces."""
