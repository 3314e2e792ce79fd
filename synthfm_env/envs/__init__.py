"""Gymnasium environments of promptable segmentation. Import the classes from ``synthfm_env``."""
