package kernelgate;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ForkJoinWorkerThread;
import java.util.stream.Stream;

/** One execute_request: who asked, what its outputs name as their parent, and what it started. */
final class Execution {
    /** Number of the cell, as shown in tracebacks. */
    final int count;
    final byte[][] identities;
    final String parentHeader;
    final boolean allowStdin;
    /** Set once, by the first interrupt; never taken back, so that code of this execution that wakes up late still stops. */
    volatile boolean interrupted;
    /** Where its thread was when it was stopped: an exception thrown by Thread.stop carries the stopper's frames. */
    volatile StackTraceElement[] stoppedAt;
    /** Processes started by this execution's code, to be ended with it when it is interrupted. */
    private final Set<Process> processes = ConcurrentHashMap.newKeySet();
    /** Set when an interrupt is done: nobody looks any more for what was being started then. */
    private volatile boolean ended;
    /** When (nanoTime) the interrupt was last thrown into a thread: clean-up code that runs because of it must be able to loop. */
    private final Map<Thread, Long> thrownAt = new ConcurrentHashMap<>();

    private static final long CLEANUP_NS = 200_000_000L;

    Execution(int count, byte[][] identities, String parentHeader, boolean allowStdin) {
        this.count = count;
        this.identities = identities;
        this.parentHeader = parentHeader;
        this.allowStdin = allowStdin;
    }

    boolean isEnded() { return ended; }

    /** Takes note of processes. `wasEnded`: what isEnded said when their start began. */
    void started(List<Process> begun, boolean wasEnded) {
        processes.addAll(begun);
        // Only while the cell runs are its processes of interest; a later one must not be kept from collection by them.
        for (Process process : begun) process.onExit().thenRun(() -> processes.remove(process));
        if (ended && !wasEnded) begun.forEach(Process::destroyForcibly);
    }

    /** The processes started by this execution's code that live, and all below them. One look at the machine's, however many they are. */
    Set<ProcessHandle> processes() {
        Set<ProcessHandle> found = new HashSet<>();
        for (Process process : processes) if (process.isAlive()) found.add(process.toHandle());
        if (found.isEmpty()) return found;
        Map<ProcessHandle, List<ProcessHandle>> children = new HashMap<>();
        ProcessHandle.current().descendants().forEach(child ->
            child.parent().ifPresent(parent -> children.computeIfAbsent(parent, any -> new ArrayList<>()).add(child)));
        List<ProcessHandle> below = new ArrayList<>(found);
        for (int i = 0; i < below.size(); i++)
            for (ProcessHandle child : children.getOrDefault(below.get(i), List.of())) if (found.add(child)) below.add(child);
        return found;
    }

    /** Ends what was started meanwhile; what is still being started ends when it is there. */
    void end() {
        ended = true;
        processes().forEach(ProcessHandle::destroyForcibly);
    }

    boolean mustThrow(Thread thread) {
        if (!interrupted) return false;
        long now = System.nanoTime();
        Long last = thrownAt.get(thread);
        if (last != null && now - last < CLEANUP_NS) return false;
        thrownAt.put(thread, now);
        return true;
    }

    /**
     * The execution a thread works for. A thread inherits it from the one that starts it, so that what it prints after the cell has
     * ended still goes to the cell it came from.
     */
    private static final InheritableThreadLocal<Execution> OF_THREAD = new InheritableThreadLocal<>();
    /** The execution that runs now, or ran last. */
    static volatile Execution latest = new Execution(0, new byte[0][], "{}", false);
    static volatile boolean running;

    static void enter(Execution execution) { OF_THREAD.set(execution); }

    static Execution ofThread() { return OF_THREAD.get(); }

    /** The execution of another thread, or null. There is no public way to ask. */
    static Execution ofThread(Thread thread) {
        try {
            Object map = Access.THREAD_LOCALS.invoke(OF_THREAD, thread);
            if (map == null) return null;
            Object entry = Access.THREAD_LOCAL_ENTRY.invoke(map, OF_THREAD);
            return entry == null ? null : (Execution) Access.THREAD_LOCAL_VALUE.get(entry);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Interrupted executions that may still have code running, by number. */
    private static final Map<Integer, Execution> INTERRUPTED = new ConcurrentHashMap<>();

    void markInterrupted() {
        synchronized (INTERRUPTED) {
            interrupted = true;
            INTERRUPTED.put(count, this);
            Hooks.interruptPending = true;
        }
    }

    void forgetInterrupt() {
        synchronized (INTERRUPTED) {
            INTERRUPTED.remove(count, this);
            Hooks.interruptPending = !INTERRUPTED.isEmpty();
        }
    }

    /**
     * The number of the cell whose code a thread runs, from its frames, innermost first; 0 for none. A pool's thread may have been
     * started by an earlier cell, or by the JDK, and work for a later one: the outermost frame of the user's is its task.
     */
    static int taskOf(Stream<String> classNames) {
        return classNames.mapToInt(Snippets::cellOf).filter(cell -> cell > 0).reduce(0, (inner, outer) -> outer);
    }

    private static int taskOfThisThread() {
        return StackWalker.getInstance().walk(frames -> taskOf(frames.map(StackWalker.StackFrame::getClassName)));
    }

    /** Whether another thread runs, or was started by, this execution's code. */
    boolean owns(Thread thread) {
        Execution starter = ofThread(thread);
        if (starter == this) return true;
        if (starter != null && starter.count > count) return false;
        return taskOf(Arrays.stream(thread.getStackTrace()).map(StackTraceElement::getClassName)) == count;
    }

    /** Whether the current thread is to be stopped now. Quick for a thread of a cell that runs undisturbed. */
    static boolean worksForInterrupted() {
        Execution mine = OF_THREAD.get();
        if (mine == latest && !mine.interrupted) return false;
        if (mine == null || !mine.interrupted) mine = INTERRUPTED.get(taskOfThisThread());
        return mine != null && mine.mustThrow(Thread.currentThread());
    }

    /** The execution that what the current thread does now belongs to. Never null. */
    static Execution current() {
        Execution now = latest;
        Execution mine = OF_THREAD.get();
        if (mine == now) return now;
        int task = taskOfThisThread();
        if (mine == null || task >= now.count) return now;
        // A method reference leaves no frame of the user's on a thread of the common pool.
        return task == 0 && running && Thread.currentThread() instanceof ForkJoinWorkerThread ? now : mine;
    }
}
