"""Checks for authors of clickers."""

from synthfm_agents.clicker_checks import check_clicker

__all__ = ["check_clicker"]
