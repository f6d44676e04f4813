"""Kernels written in Python, and the parts other kernels share with them."""
