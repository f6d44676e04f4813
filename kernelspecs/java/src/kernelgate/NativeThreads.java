package kernelgate;

import java.lang.reflect.Method;

/** Thread.stop and the signal that ends a system call: both only on JDK 17 to 19. */
final class NativeThreads {
    /** Null from JDK 20 on, where the method only throws, and later is gone. */
    static final Method STOP = Runtime.version().feature() < 20 ? Access.method(Thread.class, "stop") : null;
    private static final Method CURRENT = STOP == null ? null : Access.method(Access.type("sun.nio.ch.NativeThread"), "current");
    private static final Method SIGNAL = STOP == null ? null : Access.method(Access.type("sun.nio.ch.NativeThread"), "signal", long.class);

    private NativeThreads() {}

    static long current() {
        try {
            return CURRENT == null ? 0 : (long) CURRENT.invoke(null);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    static void stop(Thread thread) {
        try {
            STOP.invoke(thread);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Makes a system call the thread is blocked in (a socket's read or accept) return, so that the stop can strike. */
    static void wake(long nativeThread) {
        try {
            if (nativeThread != 0) SIGNAL.invoke(null, nativeThread);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }
}
