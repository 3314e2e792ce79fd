"""The board on a terminal, in files and as an HTML report."""
