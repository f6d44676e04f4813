# Generated from kernelgate/sdk/_async/__init__.py by tests/tools/unasync.py: change that one.
"""The asynchronous client, written by hand; `_sync` is generated from it by tests/tools/unasync.py."""
