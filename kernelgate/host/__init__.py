"""What runs inside a session's sandbox: init (PID 1), the session host, and through them the kernels.

Theory of operation. The zygote forks init into a new sandbox. Init stays single-threaded, so that it can fork: the host, and every kernel that can be started by fork. The
host is the session's keeper: it alone talks to kernels and to the gateway, and writes the journal. Both run under other users than the session's code.

    gateway == unix socket, listening in init ==> host == socket pair ==> init
                                                   |                       |-- fork: host, again when it dies
                                                   |-- ZeroMQ --> kernels <-- fork or exec

Who outlives whom: kernels outlive the host (a new host takes them over under the same ZeroMQ identity), everything outlives gateway and zygote, nothing outlives init.
Standard library and msgspec only; one thread, one poll loop.
"""
