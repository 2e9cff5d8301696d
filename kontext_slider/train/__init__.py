"""Training: the pocket model and its small world."""
