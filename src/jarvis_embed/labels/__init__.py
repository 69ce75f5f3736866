"""Labels of messages: the two sets, the gold labels of the package, and the user's own."""
