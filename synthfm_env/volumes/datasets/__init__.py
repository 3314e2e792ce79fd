"""Readers of data sets as their hosts ship them."""

from synthfm_env.volumes.datasets.base import Item, Layout, wanted_ids
from synthfm_env.volumes.datasets.registry import get_layout, list_layouts

__all__ = ["Item", "Layout", "get_layout", "list_layouts", "wanted_ids"]
