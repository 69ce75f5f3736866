"""Spaces: all that was computed with one fingerprint, built beside, checked, and switched in one step."""
