"""Clickers that learned to choose among candidate clicks."""
