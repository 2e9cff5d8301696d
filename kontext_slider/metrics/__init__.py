"""Measures of pictures and sweeps: distances, smoothness, PSNR, statistics."""
