"""Clickers: the agents that place clicks in a ``synthfm_env`` environment."""

from synthfm_agents.base import Clicker
from synthfm_agents.protocol import ClickProtocol
from synthfm_agents.registry import list_clickers, list_protocols, make_clicker

__all__ = ["ClickProtocol", "Clicker", "list_clickers", "list_protocols", "make_clicker"]
