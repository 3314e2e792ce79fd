"""Imaging: tissue intensities, scanners and noise."""
