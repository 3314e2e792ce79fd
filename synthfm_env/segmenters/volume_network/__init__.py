"""A small U-Net that takes clicks as input channels, and its session on an image."""
