"""Training SAM 2 on SynthFM-3D volumes."""
