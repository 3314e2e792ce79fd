"""Tracking of one structure through one stack of slices."""
