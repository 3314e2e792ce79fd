"""Training of SAM 2 on synthetic clips."""
