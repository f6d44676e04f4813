package kernelgate;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.reflect.Method;
import java.nio.channels.Pipe;

/**
 * dup2 for the JVM's own descriptors. Java has no public way, and a launcher in front would be a second process that can die alone; the
 * JDK has the system call for its inetd support (sun.nio.ch.InheritedChannel).
 */
final class Descriptors {
    private static final Method DUP2 = Access.method(Access.type("sun.nio.ch.InheritedChannel"), "dup2", int.class, int.class);

    private Descriptors() {}

    /** Makes a descriptor the writing end of a new pipe, and returns the reading end, which does not block. */
    static Pipe.SourceChannel redirect(int descriptor) throws IOException {
        Pipe pipe = Pipe.open();
        pipe.source().configureBlocking(false);
        try {
            Method number = Access.method(Access.type("sun.nio.ch.SinkChannelImpl"), "getFDVal");
            DUP2.invoke(null, number.invoke(pipe.sink()), descriptor);
        } catch (ReflectiveOperationException e) {
            throw new IOException("cannot redirect descriptor " + descriptor, e);
        }
        // The copy stays open until the JVM ends, so the reader never sees the end of file.
        pipe.sink().close();
        return pipe.source();
    }

    /** Makes descriptor 0 empty: a child process that inherits it must neither wait for the caller nor take what is not its own. */
    static void emptyStdin() throws IOException {
        try (RandomAccessFile nothing = new RandomAccessFile("/dev/null", "r")) {
            int number = (int) Access.field(java.io.FileDescriptor.class, "fd").get(nothing.getFD());
            DUP2.invoke(null, number, 0);
        } catch (ReflectiveOperationException e) {
            throw new IOException("cannot empty descriptor 0", e);
        }
    }
}
