"""Click protocols: simulated users who see the truth."""
