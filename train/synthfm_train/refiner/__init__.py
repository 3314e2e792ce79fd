"""Training of the 3D refiner."""
