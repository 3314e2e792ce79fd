"""The default session: several views of a crop that follows the structure."""
