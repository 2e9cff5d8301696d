"""Morphers: the pictures between a source and its full edit, behind one signature (`registry.Morpher`)."""
