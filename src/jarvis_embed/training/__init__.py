"""Training: what learns. Heavy libraries are imported here only, inside functions."""
