package kernelgate;

import java.io.File;
import java.io.IOException;
import java.util.List;

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
        return started(builder.start());
    }

    public static List<Process> startPipeline(List<ProcessBuilder> builders) throws IOException {
        builders.forEach(ProcessBuilder::environment);
        List<Process> processes = ProcessBuilder.startPipeline(builders);
        processes.forEach(Hooks::started);
        return processes;
    }

    private static Process started(Process process) {
        Execution execution = Execution.current();
        execution.processes.add(process);
        // Only while the cell runs are its processes of interest; a later one must not be kept from collection by them.
        process.onExit().thenRun(() -> execution.processes.remove(process));
        return process;
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
        if (variables != null) return started(runtime.exec(command, variables, directory));
        return start(new ProcessBuilder(command).directory(directory));
    }
}
