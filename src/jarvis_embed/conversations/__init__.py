"""Pure functions over messages: turns and pairs."""
