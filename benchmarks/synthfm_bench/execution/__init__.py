"""Workers, episodes, resuming and replaying of a suite."""
