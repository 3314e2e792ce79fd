"""Training of the volume network: simulated episodes on synthetic volumes."""
