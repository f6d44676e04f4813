"""The protocol: Jupyter messages, MIME bundles, events, results and the execution's state machine.

One rule: no I/O. Nothing here opens, reads, waits or asks for the time; everything is given. Standard library only, since it also runs inside every session.
"""
