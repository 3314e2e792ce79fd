"""Aggregation, statistics and comparisons of episodes."""
