"""Body and background clusters."""
