"""Formats of photographs: opening any of them, colours and depth to 8-bit sRGB, and the metadata that results keep."""
