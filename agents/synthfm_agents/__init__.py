"""Clickers: the agents that place clicks in a ``synthfm_env`` environment."""

from synthfm_agents.clicker import Clicker
from synthfm_agents.registry import list_clickers, make_clicker

__all__ = ["Clicker", "list_clickers", "make_clicker"]
