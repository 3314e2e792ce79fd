"""Playing a suite: workers, episodes, resuming, replaying."""
