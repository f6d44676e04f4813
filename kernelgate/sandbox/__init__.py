"""The sandbox: policy as data, and the system calls that make it so.

Theory of operation. The zygote (root, or with the rights to make namespaces) prepares once: a read-only root file system in its own mount namespace, a compiled system call
filter, everything a Python kernel imports. For each session it forks a child into new PID, mount, network, IPC and UTS namespaces; the child mounts what is the session's
own, changes its root, gives up what it does not need and becomes init (see `kernelgate.host`).

    user            runs                        may
    root            init                        fork, change user, signal; nothing else (four capabilities, filtered calls)
    host uid        session host                read and write the journal and its spool, use its sockets
    code uid        kernels, commands           use /workspace, /tmp, /dev/shm, its own processes, its own loopback

What is not promised: a fault in the kernel is not covered by namespaces.
"""
