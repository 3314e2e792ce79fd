"""Clickers that never see the truth."""
