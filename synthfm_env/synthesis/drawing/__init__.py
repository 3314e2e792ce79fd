"""Random fields, displacements and the canvas on which structures are painted."""
