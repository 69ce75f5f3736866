"""Models: what is known about them, where their weights come from, and how a text becomes a vector."""
