"""Suites, the runner, the board and the ``synthfm`` command."""
