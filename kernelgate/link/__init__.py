"""The link between the gateway and a session's host: one unix socket, requests one after the other on each connection.

A connection carries one request at a time, like HTTP/1.1 with keep-alive: the gateway sends one frame, the host answers with frames until one says `"end": true`. A long
answer (a stream of events) has its connection for itself, so a slow reader slows down nothing but its own stream, through the socket's own buffers.
"""
