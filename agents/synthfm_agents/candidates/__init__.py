"""Clickers that were trained to choose among candidate clicks."""
