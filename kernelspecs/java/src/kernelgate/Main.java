package kernelgate;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import org.dflib.jjava.shaded.org.zeromq.SocketType;
import org.dflib.jjava.shaded.org.zeromq.ZMQ;

/**
 * kernelgate's Java kernel: Jupyter's protocol over JJava's ZeroMQ, cells over the JDK's JShell, all in one JVM.
 *
 * <p>Threads: shell (requests, compiling), control (interrupt, shutdown, heartbeat), iopub (all output), capture (descriptors 1 and 2),
 * stdin (from the first question on), main (the user's code). Each socket belongs to one of them.
 */
public final class Main {
    /**
     * After this SIGTERM and shutdown_request end the process whatever the user's shutdown hooks do. The JVM itself takes up to 300 ms
     * more, waiting for threads in system calls, and all of it is to be within a second.
     */
    private static final long EXIT_WITHIN_MS = 400;
    /** What the last messages get to leave the process. */
    private static final long FLUSH_MS = 250;
    private static final long LINGER_MS = 30;

    private static Wire wire;
    private static Outbox outbox;
    private static ZMQ.Context context;
    private static ZMQ.Socket shellSocket;
    private static ZMQ.Socket controlSocket;
    private static ZMQ.Socket heartbeatSocket;
    private static volatile Engine engine;
    private static int count;

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 1) {
            System.err.println("usage: java @jvm.options -cp ... kernelgate.Main CONNECTION_FILE");
            System.exit(2);
        }
        Map<String, Object> connection = Json.readMap(Files.readAllBytes(Path.of(arguments[0])));
        connect(connection);
        outbox.start();
        start("control", Main::serveControl);
        redirect();
        installSignals();
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> {
            if (error instanceof ThreadDeath) return;
            System.err.println("Exception in thread \"" + thread.getName() + "\" " + String.join("\n", Failure.of(error).traceback()));
        });
        Runtime.getRuntime().addShutdownHook(new Thread(Main::leave, "kernelgate-exit"));
        outbox.publish("{}", "status", Map.of(), Map.of("execution_state", "starting"));
        ENVIRONMENT.forgetLimits();
        Reserve.watch();
        start("start", Main::startEngine);
        Thread shell = start("shell", Main::serveShell);
        shell.join();
    }

    private static Thread start(String name, Runnable body) {
        Thread thread = new Thread(null, () -> {
            try {
                Reserve.surviving(body);
            } catch (Throwable e) {
                // Without this thread no execution can be answered: the process must not pretend to live.
                e.printStackTrace(console);
                Runtime.getRuntime().halt(70);
            }
        }, "kernelgate-" + name, 0, false);
        thread.setDaemon(true);
        thread.start();
        return thread;
    }

    private static void connect(Map<String, Object> connection) throws IOException {
        String transport = String.valueOf(connection.getOrDefault("transport", "tcp"));
        if (!transport.equals("tcp")) throw new IOException("transport " + transport + " is not supported: this kernel speaks tcp");
        wire = new Wire(String.valueOf(connection.getOrDefault("key", "")), String.valueOf(connection.getOrDefault("signature_scheme", "hmac-sha256")));
        context = ZMQ.context(1);
        context.setThreadFactor((body, name) -> {
            Thread thread = new Thread(null, () -> Reserve.surviving(body), "kernelgate-zmq-" + name, 0, false);
            thread.setDaemon(true);
            return thread;
        });
        shellSocket = bind(context, SocketType.ROUTER, connection, "shell_port");
        controlSocket = bind(context, SocketType.ROUTER, connection, "control_port");
        heartbeatSocket = bind(context, SocketType.REP, connection, "hb_port");
        ZMQ.Socket stdin = bind(context, SocketType.ROUTER, connection, "stdin_port");
        outbox = new Outbox(wire, bind(context, SocketType.XPUB, connection, "iopub_port"));
        Notebook.outbox = outbox;
        System.setIn(new Stdin(wire, stdin));
    }

    private static ZMQ.Socket bind(ZMQ.Context context, SocketType type, Map<String, Object> connection, String port) throws IOException {
        ZMQ.Socket socket = context.socket(type);
        socket.setLinger(1000);
        // A client that follows one that was killed has its name; it must not be ignored because the end of the other has not been noticed yet.
        if (type == SocketType.ROUTER) socket.setRouterHandover(true);
        if (type == SocketType.XPUB) {
            // Wait for a slow subscriber instead of dropping; a message has up to 256 KiB, so this bounds the memory.
            socket.setXpubNoDrop(true);
            socket.setXpubVerbose(true);
            socket.setSndHWM(64);
        } else {
            socket.setSndHWM(0);
            socket.setRcvHWM(0);
        }
        String address = "tcp://" + connection.get("ip") + ":" + connection.get(port);
        if (!socket.bind(address)) throw new IOException("cannot bind " + port + " to " + address);
        return socket;
    }

    // ---- the process -----------------------------------------------------------------------------------------------------------

    /** Where the JVM's own stderr went before it became a stream of the cell's: for the kernel's own last words. */
    private static PrintStream console = System.err;

    private static void redirect() throws IOException {
        // Opened anew through /proc, because descriptor 2 is about to be replaced.
        if (Files.isWritable(Path.of("/proc/self/fd/2"))) {
            try {
                console = new PrintStream(new FileOutputStream("/proc/self/fd/2", true), true);
            } catch (IOException e) {
                console = new PrintStream(OutputStream.nullOutputStream());
            }
        }
        Descriptors.emptyStdin();
        outbox.captureDescriptors();
        System.setOut(new PrintStream(new StreamOutput(Outbox.STDOUT), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(new StreamOutput(Outbox.STDERR), true, StandardCharsets.UTF_8));
    }

    private static final class StreamOutput extends OutputStream {
        private final String stream;

        StreamOutput(String stream) { this.stream = stream; }

        @Override
        public void write(int b) { write(new byte[] {(byte) b}, 0, 1); }

        @Override
        public void write(byte[] bytes, int offset, int length) {
            outbox.write(Execution.current(), stream, bytes, offset, length);
        }
    }

    private static void installSignals() {
        sun.misc.Signal.handle(new sun.misc.Signal("TERM"), signal -> exit(128 + signal.getNumber()));
        sun.misc.Signal.handle(new sun.misc.Signal("INT"), signal -> interrupt());
    }

    /** Ends the process with its shutdown hooks, and without them where they take too long. */
    private static void exit(int status) {
        Thread guard = new Thread(null, () -> {
            try {
                Thread.sleep(EXIT_WITHIN_MS);
            } catch (InterruptedException e) {
                // Ends it only sooner.
            }
            killChildren();
            Runtime.getRuntime().halt(status);
        }, "kernelgate-guard", 0, false);
        guard.setDaemon(true);
        guard.start();
        new Thread(null, () -> System.exit(status), "kernelgate-leave", 0, false).start();
    }

    /** The shutdown hook, also of a System.exit in a cell: what was printed is sent, and no child is left behind. */
    private static void leave() {
        killChildren();
        outbox.close(FLUSH_MS);
        try {
            // The socket is closed, but its last bytes are written by a thread that nobody can wait for.
            Thread.sleep(LINGER_MS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private static void killChildren() { ProcessHandle.current().descendants().forEach(ProcessHandle::destroyForcibly); }

    private static void interrupt() {
        Engine running = engine;
        Execution execution = Execution.latest;
        if (running != null && Execution.running) running.interrupt(execution);
    }

    // ---- control and heartbeat -------------------------------------------------------------------------------------------------

    private static void serveControl() {
        ZMQ.Poller poller = context.poller(2);
        poller.register(controlSocket, ZMQ.Poller.POLLIN);
        poller.register(heartbeatSocket, ZMQ.Poller.POLLIN);
        while (true) {
            poller.poll(-1);
            if (poller.pollin(1)) heartbeatSocket.send(heartbeatSocket.recv(0), 0);
            if (!poller.pollin(0)) continue;
            Wire.Message message = wire.receive(controlSocket, 0);
            if (message == null) continue;
            status(message, "busy");
            switch (message.type()) {
                case "interrupt_request" -> {
                    interrupt();
                    wire.reply(controlSocket, message, "interrupt_reply", Map.of("status", "ok"));
                }
                case "shutdown_request" -> {
                    shutDown(controlSocket, message);
                    return;
                }
                case "kernel_info_request" -> wire.reply(controlSocket, message, "kernel_info_reply", kernelInfo());
                default -> unknown(controlSocket, message);
            }
            status(message, "idle");
        }
    }

    private static void shutDown(ZMQ.Socket socket, Wire.Message message) {
        wire.reply(socket, message, "shutdown_reply", Json.map("status", "ok", "restart", message.content().get("restart")));
        status(message, "idle");
        exit(0);
    }

    private static void unknown(ZMQ.Socket socket, Wire.Message message) {
        if (!message.type().endsWith("_request")) return;
        wire.reply(socket, message, message.type().replace("_request", "_reply"),
                Map.of("status", "error", "ename", "NotImplemented", "evalue", message.type(), "traceback", List.of()));
    }

    private static void status(Wire.Message message, String state) {
        outbox.publish(message.rawHeader(), "status", Map.of(), Map.of("execution_state", state));
    }

    private static Map<String, Object> kernelInfo() {
        String version = System.getProperty("java.version");
        return Json.map("status", "ok", "protocol_version", "5.4", "implementation", "kernelgate-java", "implementation_version", "1.0",
                "language_info", Json.map("name", "java", "version", version, "mimetype", "text/x-java-source", "file_extension", ".jshell",
                        "pygments_lexer", "java", "codemirror_mode", "text/x-java"),
                "banner", "Java " + version + " (JShell)", "debugger", false, "help_links", List.of(), "supported_features", List.of());
    }

    // ---- shell -----------------------------------------------------------------------------------------------------------------

    private static final Environment ENVIRONMENT = new Environment();
    private static final CompletableFuture<Engine> STARTING = new CompletableFuture<>();
    /** True as soon as somebody waits for the engine, which then skips the rest of its warming up. */
    static volatile boolean wanted;

    private static void startEngine() {
        Engine made = new Engine();
        engine = made;
        made.warmUp();
        STARTING.complete(made);
    }

    private static Engine engine() {
        wanted = true;
        return STARTING.join();
    }

    private static void serveShell() {
        while (true) {
            try {
                Wire.Message message = wire.receive(shellSocket, 0);
                if (message != null && !answer(message)) return;
            } catch (OutOfMemoryError e) {
                Reserve.release();
                // Some thread of the user's holds the heap. The request is lost; the next one may find room again.
                console.println("out of memory while answering a request");
            }
        }
    }

    /** Answers one request. Returns false after the one to shut down. */
    private static boolean answer(Wire.Message message) {
        status(message, "busy");
        Map<String, Object> content = message.content();
        String code = content.get("code") instanceof String text ? text : "";
        switch (message.type()) {
            case "execute_request" -> execute(message, code);
            case "kernel_info_request" -> wire.reply(shellSocket, message, "kernel_info_reply", kernelInfo());
            case "complete_request" -> wire.reply(shellSocket, message, "complete_reply", engine().complete(code, cursor(content, code)));
            case "inspect_request" -> wire.reply(shellSocket, message, "inspect_reply", engine().inspect(code, cursor(content, code)));
            case "is_complete_request" -> wire.reply(shellSocket, message, "is_complete_reply", engine().isComplete(code));
            case "history_request" -> wire.reply(shellSocket, message, "history_reply", Map.of("status", "ok", "history", List.of()));
            case "comm_info_request" -> wire.reply(shellSocket, message, "comm_info_reply", Map.of("status", "ok", "comms", Map.of()));
            case "shutdown_request" -> {
                shutDown(shellSocket, message);
                return false;
            }
            default -> unknown(shellSocket, message);
        }
        insist(() -> {
            status(message, "idle");
            return null;
        });
        return true;
    }

    /** Jupyter counts code points, Java counts UTF-16 units; and a cursor may be missing, or beyond the end. */
    private static int cursor(Map<String, Object> content, String code) {
        int length = code.codePointCount(0, code.length());
        int points = content.get("cursor_pos") instanceof Number number ? number.intValue() : length;
        return code.offsetByCodePoints(0, Math.max(0, Math.min(points, length)));
    }

    private static void execute(Wire.Message message, String code) {
        Map<String, Object> content = message.content();
        boolean silent = Boolean.TRUE.equals(content.get("silent"));
        if (!silent && !Boolean.FALSE.equals(content.get("store_history"))) count++;
        Execution execution = new Execution(count, message.identities(), message.rawHeader(), Boolean.TRUE.equals(content.get("allow_stdin")));
        if (!silent) outbox.publish(execution, "execute_input", Json.map("code", code, "execution_count", count));
        Engine ready = engine();
        Map<String, Object> reply = Json.map("status", "ok", "execution_count", count);
        Map<String, Object> expressions = new LinkedHashMap<>();
        Execution.latest = execution;
        Execution.running = true;
        Engine.Result result;
        try {
            ENVIRONMENT.set(variables(message));
            result = ready.run(execution, code);
            if (result.failure() == null && content.get("user_expressions") instanceof Map<?, ?> wanted)
                wanted.forEach((name, source) -> expressions.put(String.valueOf(name), ready.expression(execution, String.valueOf(source))));
        } catch (Throwable e) {
            // JShell's own failures, and a heap that the user's code has filled.
            if (e instanceof OutOfMemoryError) Reserve.release();
            result = new Engine.Result(null, insist(() -> Failure.of(e)));
        } finally {
            Execution.running = false;
            ENVIRONMENT.restore();
        }
        Failure failure = result.failure();
        Map<String, Object> bundle = result.bundle();
        insist(() -> {
            if (failure != null) {
                reply.put("status", "error");
                reply.putAll(failure.content());
            } else reply.put("user_expressions", expressions);
            reply.put("payload", List.of());
            return null;
        });
        insist(() -> {
            if (silent) return null;
            if (failure != null) outbox.publish(execution, "error", failure.content());
            else if (bundle != null)
                outbox.publish(execution, "execute_result", Json.map("execution_count", count, "data", bundle, "metadata", Map.of()));
            return null;
        });
        insist(() -> {
            wire.reply(shellSocket, message, "execute_reply", reply);
            return null;
        });
        if (failure != null && !Boolean.FALSE.equals(content.get("stop_on_error"))) abortWaiting();
    }

    /** Does what must be done for an execution to end, though threads of the user's may still be filling the heap. */
    private static <T> T insist(Supplier<T> step) {
        for (int attempt = 1; ; attempt++) {
            try {
                return step.get();
            } catch (OutOfMemoryError e) {
                Reserve.release();
                if (attempt == 50) throw e;
                LockSupport.parkNanos(20_000_000L);
            }
        }
    }

    private static Map<String, String> variables(Wire.Message message) {
        Map<String, String> variables = new HashMap<>();
        if (message.metadata().get("kernelgate") instanceof Map<?, ?> own && own.get("env") instanceof Map<?, ?> env)
            env.forEach((name, value) -> {
                if (value != null) variables.put(String.valueOf(name), String.valueOf(value));
            });
        return variables;
    }

    /** As the protocol has it: after an error, what was queued behind is not run. */
    private static void abortWaiting() {
        Wire.Message waiting;
        while ((waiting = wire.receive(shellSocket, ZMQ.DONTWAIT)) != null) {
            if (!waiting.type().equals("execute_request")) {
                answer(waiting);
                continue;
            }
            status(waiting, "busy");
            wire.reply(shellSocket, waiting, "execute_reply", Json.map("status", "aborted", "execution_count", count));
            status(waiting, "idle");
        }
    }
}
