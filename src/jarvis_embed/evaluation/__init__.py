"""Evaluation: what a model is worth, in quality and in time."""
