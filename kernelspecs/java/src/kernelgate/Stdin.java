package kernelgate;

import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/**
 * System.in. A read that finds nothing buffered asks the front end for one line; it returns at most that line, so that a Scanner made
 * anew in every cell does not swallow what belongs to the next one. The socket belongs to a thread of its own, since the reading thread
 * may be killed at any point.
 */
final class Stdin extends InputStream {
    /** Text typed so far and not read, and the place in it. */
    private byte[] line = {};
    private int at;

    private final Wire wire;
    private final ZMQ.Socket socket;
    private Thread asker;

    /** Guards the three below: the question on its way, and its answer. */
    private final Object exchange = new Object();
    private Execution asking;
    private boolean sent;
    private String answer;

    Stdin(Wire wire, ZMQ.Socket socket) {
        this.wire = wire;
        this.socket = socket;
    }

    @Override
    public synchronized int read() throws IOException {
        return fill() ? line[at++] & 0xff : -1;
    }

    @Override
    public synchronized int read(byte[] buffer, int offset, int length) throws IOException {
        java.util.Objects.checkFromIndexSize(offset, length, buffer.length);
        if (length == 0) return 0;
        if (!fill()) return -1;
        int count = Math.min(length, line.length - at);
        System.arraycopy(line, at, buffer, offset, count);
        at += count;
        return count;
    }

    @Override
    public synchronized int available() { return line.length - at; }

    private boolean fill() throws IOException {
        if (at < line.length) return true;
        line = (ask(Execution.current()) + "\n").getBytes(StandardCharsets.UTF_8);
        at = 0;
        return true;
    }

    private String ask(Execution execution) throws IOException {
        if (!execution.allowStdin) throw new StdinNotAllowedException("System.in was read, but this execution does not allow input");
        if (execution != Execution.latest || !Execution.running)
            throw new StdinNotAllowedException("System.in was read after the cell had ended");
        synchronized (exchange) {
            if (asker == null) {
                // Inherits nothing: it is the kernel's thread, whoever reads first.
                asker = new Thread(null, this::serve, "kernelgate-stdin", 0, false);
                asker.setDaemon(true);
                asker.start();
            }
            asking = execution;
            sent = false;
            answer = null;
            exchange.notifyAll();
            try {
                while (answer == null) exchange.wait();
                return answer;
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new InterruptedIOException("interrupted while waiting for input");
            } finally {
                asking = null;
            }
        }
    }

    /** The socket's thread: sends each question, takes each answer. It waits in short turns, since a question can be withdrawn. */
    private void serve() {
        while (true) {
            Execution execution;
            synchronized (exchange) {
                while (asking == null) {
                    try {
                        exchange.wait();
                    } catch (InterruptedException e) {
                        return;
                    }
                }
                execution = asking;
                if (!sent) {
                    // What was typed for a question that was interrupted is not an answer to this one.
                    while (wire.receive(socket, ZMQ.DONTWAIT) != null) continue;
                    Wire.send(socket, wire.encode(execution.identities, "input_request", execution.parentHeader, Map.of(),
                            Json.map("prompt", "", "password", false)));
                    sent = true;
                }
            }
            socket.setReceiveTimeOut(20);
            Wire.Message message = wire.receive(socket, 0);
            if (message == null || !message.type().equals("input_reply")) continue;
            synchronized (exchange) {
                if (asking == null || !sent) continue;
                answer = String.valueOf(message.content().getOrDefault("value", ""));
                asking = null;
                exchange.notifyAll();
            }
        }
    }
}
