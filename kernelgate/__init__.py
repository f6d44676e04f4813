"""kernelgate: a self-hosted code interpreter service over Jupyter kernels."""

__version__ = "0.1.0"
