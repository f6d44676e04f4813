package kernelgate;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.Pipe;
import java.nio.channels.SelectableChannel;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Map;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/**
 * Everything that goes out on iopub, in one queue, sent by one thread.
 *
 * <p>Three kinds of writers: the kernel (messages), System.out and System.err (bytes, with the execution of the writing thread), and
 * file descriptors 1 and 2, which are pipes read here, for child processes and native code. One queue keeps their order; before Java
 * code's output is queued, what already waits in the pipes is taken first, so that a child's output stays before what is printed after
 * waiting for it.
 *
 * <p>Bounded: a writer of bytes waits while MAX_QUEUED_BYTES are unsent, and the socket blocks instead of dropping (XPUB with nodrop).
 * A subscriber that does not read therefore slows the cell down; nothing is lost. The user's threads never touch the socket, because
 * an interrupt may kill them anywhere.
 */
final class Outbox extends Thread {
    static final String STDOUT = "stdout";
    static final String STDERR = "stderr";

    /** One stream message carries at most this much. */
    private static final int CHUNK_BYTES = 256 * 1024;
    private static final int MAX_QUEUED_BYTES = 8 * 1024 * 1024;
    /** Text waits this long for more of its kind before it is sent alone: far below the 50 ms promised. */
    private static final long GATHER_NS = 6_000_000L;
    /** Writers in a tight loop look into the pipes at most this often: it costs a system call each. */
    private static final long PIPE_CHECK_NS = 20_000L;

    /** Either a message or, where stream is set, bytes of a stream. */
    private static final class Item {
        final Execution execution;
        final String stream;
        byte[] bytes;
        int length;
        final long since = System.nanoTime();
        String type;
        String parent;
        Object metadata;
        Object content;

        Item(Execution execution, String stream) {
            this.execution = execution;
            this.stream = stream;
        }
    }

    private final Wire wire;
    private final ZMQ.Socket socket;
    private final Selector wakeUp;
    private final ArrayDeque<Item> queue = new ArrayDeque<>();
    private int queuedBytes;
    /** True while the sender waits without a deadline and must be woken. */
    private boolean asleep;
    private boolean closing;

    private Pipe.SourceChannel outPipe;
    private Pipe.SourceChannel errPipe;
    private final ByteBuffer pipeBuffer = ByteBuffer.allocate(64 * 1024);
    private long pipesCheckedAt;

    /** Bytes of an unfinished character at the end of what was sent last, of stdout and of stderr. Only the sender uses them. */
    private byte[] outTail = {};
    private byte[] errTail = {};

    Outbox(Wire wire, ZMQ.Socket socket) throws IOException {
        super("kernelgate-iopub");
        setDaemon(true);
        this.wire = wire;
        this.socket = socket;
        wakeUp = Selector.open();
        SelectableChannel mailbox = socket.getFD();
        mailbox.register(wakeUp, SelectionKey.OP_READ);
    }

    // ---- writers -------------------------------------------------------------------------------------------------------------

    void publish(Execution execution, String type, Object content) {
        publish(execution.parentHeader, type, Map.of(), content);
    }

    synchronized void publish(String parent, String type, Object metadata, Object content) {
        drainPipes();
        Item item = new Item(null, null);
        item.type = type;
        item.parent = parent;
        item.metadata = metadata;
        item.content = content;
        queue.addLast(item);
        wake();
    }

    synchronized void write(Execution execution, String stream, byte[] bytes, int offset, int length) {
        awaitRoom();
        if (System.nanoTime() - pipesCheckedAt > PIPE_CHECK_NS) drainPipes();
        append(execution, stream, bytes, offset, length);
    }

    /** Waits for room. A thread interrupted meanwhile does not wait, and stays interrupted: its cell is about to end. */
    private void awaitRoom() {
        while (queuedBytes > MAX_QUEUED_BYTES && !closing) {
            try {
                wait();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                return;
            }
        }
    }

    private void append(Execution execution, String stream, byte[] bytes, int offset, int length) {
        while (length > 0) {
            Item last = queue.peekLast();
            if (last == null || last.stream != stream || last.execution != execution || last.length >= CHUNK_BYTES) {
                last = new Item(execution, stream);
                last.bytes = new byte[Math.min(Math.max(length, 256), CHUNK_BYTES)];
                queue.addLast(last);
            }
            int count = Math.min(length, CHUNK_BYTES - last.length);
            if (last.length + count > last.bytes.length)
                last.bytes = Arrays.copyOf(last.bytes, Math.min(CHUNK_BYTES, Math.max(last.bytes.length * 2, last.length + count)));
            System.arraycopy(bytes, offset, last.bytes, last.length, count);
            last.length += count;
            queuedBytes += count;
            offset += count;
            length -= count;
        }
        if (asleep) wake();
    }

    private void wake() {
        asleep = false;
        wakeUp.wakeup();
    }

    // ---- descriptors 1 and 2 ---------------------------------------------------------------------------------------------------

    /** Makes descriptors 1 and 2 pipes that end here. */
    void captureDescriptors() throws IOException {
        outPipe = Descriptors.redirect(1);
        errPipe = Descriptors.redirect(2);
        Thread reader = new Thread(() -> Reserve.surviving(this::readPipes), "kernelgate-capture");
        reader.setDaemon(true);
        reader.start();
    }

    private void readPipes() {
        try (Selector readable = Selector.open()) {
            outPipe.register(readable, SelectionKey.OP_READ);
            errPipe.register(readable, SelectionKey.OP_READ);
            while (true) {
                readable.select();
                readable.selectedKeys().clear();
                // Read and queue under one lock: bytes must never be in this thread's hands while another writer queues.
                synchronized (this) {
                    awaitRoom();
                    drainPipes();
                }
            }
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    /** Takes what waits in the pipes. Their writers are unknown, so it belongs to the cell that runs, or ran last. */
    private synchronized void drainPipes() {
        if (outPipe == null) return;
        pipesCheckedAt = System.nanoTime();
        drain(outPipe, STDOUT);
        drain(errPipe, STDERR);
    }

    private void drain(Pipe.SourceChannel pipe, String stream) {
        if (pipe == null) return;
        try {
            while (true) {
                pipeBuffer.clear();
                // Not blocking: only so may an interrupted thread read without closing the channel (ClosedByInterruptException).
                int count = pipe.read(pipeBuffer);
                if (count <= 0) return;
                append(Execution.latest, stream, pipeBuffer.array(), 0, count);
                if (count < pipeBuffer.capacity() || queuedBytes > MAX_QUEUED_BYTES) return;
            }
        } catch (IOException e) {
            throw new java.io.UncheckedIOException(e);
        }
    }

    // ---- the sender ------------------------------------------------------------------------------------------------------------

    @Override
    public void run() {
        while (true) {
            try {
                answerSubscribers();
                Item item;
                long wait;
                synchronized (this) {
                    item = queue.peekFirst();
                    wait = item == null ? 0 : mayWait(item);
                    if (item == null && closing) break;
                    asleep = item == null;
                    if (item != null && wait <= 0) {
                        queue.removeFirst();
                        queuedBytes -= item.length;
                        notifyAll();
                    }
                }
                if (item == null) wakeUp.select();
                else if (wait > 0) wakeUp.select(1 + wait / 1_000_000L);
                else send(item);
                wakeUp.selectedKeys().clear();
            } catch (OutOfMemoryError e) {
                // The user's code has filled the heap. The message is lost, the kernel is not; the cell's error will say why.
                continue;
            } catch (IOException e) {
                throw new java.io.UncheckedIOException(e);
            }
        }
        socket.close();
    }

    /** How long (ns) an item may still wait for more of its kind: not at all where something else is queued behind it. */
    private long mayWait(Item item) {
        if (item.stream == null || closing || queue.size() > 1 || item.length >= CHUNK_BYTES / 4) return 0;
        return GATHER_NS - (System.nanoTime() - item.since);
    }

    private void send(Item item) {
        if (item.stream == null) {
            if (item.type.equals("status")) flushTails(item.parent);
            transmit(item.type, item.parent, item.metadata, item.content);
            return;
        }
        byte[] tail = item.stream == STDOUT ? outTail : errTail;
        byte[] bytes = item.bytes;
        int length = item.length;
        if (tail.length > 0) {
            bytes = Arrays.copyOf(tail, tail.length + length);
            System.arraycopy(item.bytes, 0, bytes, tail.length, length);
            length = bytes.length;
        }
        int whole = Utf8.wholeCharacters(bytes, length);
        tail = Arrays.copyOfRange(bytes, whole, length);
        if (item.stream == STDOUT) outTail = tail;
        else errTail = tail;
        if (whole > 0) stream(item.execution.parentHeader, item.stream, new String(bytes, 0, whole, StandardCharsets.UTF_8));
    }

    /** At an execution's end half a character will not become whole any more. */
    private void flushTails(String parent) {
        if (outTail.length > 0) stream(parent, STDOUT, new String(outTail, StandardCharsets.UTF_8));
        if (errTail.length > 0) stream(parent, STDERR, new String(errTail, StandardCharsets.UTF_8));
        outTail = errTail = new byte[0];
    }

    private void stream(String parent, String name, String text) {
        transmit("stream", parent, Map.of(), Json.map("name", name, "text", text));
    }

    private void transmit(String type, String parent, Object metadata, Object content) {
        byte[][] topic = {type.getBytes(StandardCharsets.US_ASCII)};
        Wire.send(socket, wire.encode(topic, type, parent, metadata, content));
    }

    /** Greets new subscribers (Jupyter's iopub_welcome), so that they know from when on they miss nothing. */
    private void answerSubscribers() {
        socket.getEvents();  // also makes the socket notice what has arrived
        byte[] subscription;
        while ((subscription = socket.recv(ZMQ.DONTWAIT)) != null) {
            if (subscription.length == 0 || subscription[0] != 1) continue;
            byte[] topic = Arrays.copyOfRange(subscription, 1, subscription.length);
            Wire.send(socket, wire.encode(new byte[][] {topic}, "iopub_welcome", "{}", Map.of(),
                    Json.map("subscription", new String(topic, StandardCharsets.UTF_8))));
        }
    }

    /** Sends what is queued, then closes the socket. Returns when that is done, at the latest after the time given. */
    void close(long withinMs) {
        synchronized (this) {
            drainPipes();
            closing = true;
            notifyAll();
            wake();
        }
        try {
            join(withinMs);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }
}
