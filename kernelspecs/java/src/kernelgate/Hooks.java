package kernelgate;

import java.io.File;
import java.io.IOException;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * What the instrumented code of the user calls (see Instrument): public, because that code lives under another class loader.
 */
public final class Hooks {
    /** True while some interrupted execution may still have code running. Read at every backward jump and method entry. */
    static volatile boolean interruptPending;

    private Hooks() {}

    /** The place where an interrupted execution's own code stops. Plain code, so no lock or collection of the JDK is torn apart. */
    public static void poll() {
        if (interruptPending) stopIfInterrupted();
    }

    private static void stopIfInterrupted() {
        if (Execution.worksForInterrupted()) throw new KeyboardInterrupt();
    }

    /** In place of ProcessBuilder.start. */
    public static Process start(ProcessBuilder builder) throws IOException {
        // A builder never asked for its environment lets the child inherit the JVM's real one, which cannot be changed.
        builder.environment();
        return start(() -> List.of(builder.start())).get(0);
    }

    public static List<Process> startPipeline(List<ProcessBuilder> builders) throws IOException {
        builders.forEach(ProcessBuilder::environment);
        return start(() -> ProcessBuilder.startPipeline(builders));
    }

    private interface Start {
        List<Process> begin() throws IOException;
    }

    /** Threads that are starting processes. Replaced and never changed, so that a thread that is stopped here cannot leave it half done. */
    private static Set<Thread> starting = Set.of();

    private static List<Process> start(Start start) throws IOException {
        Execution execution = Execution.current();
        boolean wasEnded = execution.isEnded();
        try {
            starting(true);
            List<Process> processes = start.begin();
            execution.started(processes, wasEnded);
            return processes;
        } finally {
            starting(false);
        }
    }

    private static void starting(boolean begins) {
        synchronized (Hooks.class) {
            Set<Thread> threads = new HashSet<>(starting);
            if (begins) threads.add(Thread.currentThread());
            else threads.remove(Thread.currentThread());
            starting = threads;
        }
    }

    /** Does it while the thread cannot begin to start a process, and not where it is doing so: stopped there, it would leave one that nobody knows. */
    static void unlessStarting(Thread thread, Runnable action) {
        synchronized (Hooks.class) {
            if (!starting.contains(thread)) action.run();
        }
    }

    // Runtime.exec in its six forms, as the JDK defines them in terms of ProcessBuilder.

    public static Process exec(Runtime runtime, String command) throws IOException { return exec(runtime, command, null, null); }

    public static Process exec(Runtime runtime, String command, String[] variables) throws IOException {
        return exec(runtime, command, variables, null);
    }

    public static Process exec(Runtime runtime, String command, String[] variables, File directory) throws IOException {
        if (command.isEmpty()) throw new IllegalArgumentException("Empty command");
        java.util.StringTokenizer words = new java.util.StringTokenizer(command);
        String[] array = new String[words.countTokens()];
        for (int i = 0; i < array.length; i++) array[i] = words.nextToken();
        return exec(runtime, array, variables, directory);
    }

    public static Process exec(Runtime runtime, String[] command) throws IOException { return exec(runtime, command, null, null); }

    public static Process exec(Runtime runtime, String[] command, String[] variables) throws IOException {
        return exec(runtime, command, variables, null);
    }

    public static Process exec(Runtime runtime, String[] command, String[] variables, File directory) throws IOException {
        if (variables != null) return start(() -> List.of(runtime.exec(command, variables, directory))).get(0);
        return start(new ProcessBuilder(command).directory(directory));
    }
}
