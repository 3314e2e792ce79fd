"""A run's folder and records."""
