"""The Jupyter door: Jupyter's own REST and WebSocket protocol, translated to sessions. It holds no state.

A Jupyter *kernel* is a context of a session; its id is made of theirs, or is the one that the client asked for. What Jupyter calls a session, a document with its kernel,
is called a document here. A kernel that a frontend makes has a session of its own, which ends with it; contexts of other sessions show as kernels too.
"""
