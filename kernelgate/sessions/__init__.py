"""The gateway's side of sessions: the registry, the nodes they live on, the warm pool, their end.

What is here can be lost at any moment: the registry is on disk, sessions live on without the gateway, and at start everything is found again.
"""
