"""From tissue to an image: intensities, scanners and noise."""
