"""Synthetic scenes and their edits: ground truth at every strength. Imports nothing else of this package."""
