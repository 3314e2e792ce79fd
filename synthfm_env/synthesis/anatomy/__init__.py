"""Structures: their shapes, groups and places."""
