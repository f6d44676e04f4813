package kernelgate;

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ForkJoinPool;

/**
 * The one thread the user's code runs on, and how it is stopped.
 *
 * <p>An interrupt takes the mildest way that works, one step after the other: Thread.interrupt for what waits, Hooks.poll for what
 * computes in the user's own code, signals for the processes the cell started, Thread.stop (JDK 17 to 19) for what computes or waits
 * inside the JDK. A thread that even that does not reach, such as one blocked on a monitor, is left behind and replaced: the cell ends,
 * variables keep, and the old thread dies at the next thing it does.
 */
final class Runner {
    /** What became of a piece of code: exactly one of the two is meant, the error where it is not null. */
    record Outcome(Object value, Throwable error) {}

    private static final class Task {
        final Callable<Object> code;
        final Execution execution;
        Thread thread;
        Outcome outcome;

        Task(Execution execution, Callable<Object> code) {
            this.execution = execution;
            this.code = code;
        }
    }

    /** Deep recursion is a common exercise; the stack is only reserved, not used. */
    private static final long STACK_BYTES = 8L * 1024 * 1024;
    private static final long KILL_AFTER_MS = 60;
    private static final long STOP_AFTER_MS = 100;
    private static final long ABANDON_AFTER_MS = 650;
    /** How long what a cell left running (threads, processes) is pursued after its interrupt. */
    private static final long PURSUE_MS = 5_000;

    private final ClassLoader loader;
    private Task task;
    private Thread thread;
    private volatile long nativeThread;

    Runner(ClassLoader loader) { this.loader = loader; }

    /** Runs code on the user's thread and waits for it. Code of an execution that is interrupted already, between two snippets, is not begun. */
    synchronized Outcome run(Execution execution, Callable<Object> code) {
        if (execution.interrupted) return new Outcome(null, new KeyboardInterrupt());
        Task mine = new Task(execution, code);
        task = mine;
        if (thread == null || !thread.isAlive()) startThread();
        notifyAll();
        while (mine.outcome == null) {
            try {
                wait();
            } catch (InterruptedException e) {
                // Nobody but user code that hunts down other threads would interrupt this one.
                continue;
            }
        }
        task = null;
        return mine.outcome;
    }

    private void startThread() {
        thread = new Thread(null, this::serve, "main", STACK_BYTES, false);
        thread.setContextClassLoader(loader);
        thread.start();
    }

    private void serve() {
        nativeThread = NativeThreads.current();
        while (true) {
            try {
                if (!step()) return;
            } catch (InterruptedException | ThreadDeath late) {
                // Meant for code that ended at the same moment; where it struck before the outcome was noted, the code was interrupted.
                synchronized (this) {
                    if (task != null && task.thread == Thread.currentThread()) finish(task, new Outcome(null, new KeyboardInterrupt()));
                }
            }
        }
    }

    /** Runs one task. Returns false when this thread has been replaced. */
    private boolean step() throws InterruptedException {
        Task mine;
        synchronized (this) {
            while (thread == Thread.currentThread() && (task == null || task.outcome != null || task.thread != null)) wait();
            if (thread != Thread.currentThread()) return false;
            mine = task;
            mine.thread = thread;
        }
        if (Execution.ofThread() != mine.execution) {
            Execution.enter(mine.execution);
            // An interrupt status an earlier cell left behind is not this one's.
            Thread.interrupted();
        }
        Outcome outcome;
        try {
            outcome = new Outcome(mine.code.call(), null);
        } catch (InvocationTargetException e) {
            outcome = new Outcome(null, e.getCause());
        } catch (Throwable e) {
            outcome = new Outcome(null, e);
        }
        finish(mine, outcome);
        return true;
    }

    private synchronized void finish(Task mine, Outcome outcome) {
        if (mine.outcome == null) mine.outcome = outcome;
        notifyAll();
    }

    // ---- interrupt -------------------------------------------------------------------------------------------------------------

    /** Starts to stop an execution, and returns at once. */
    void interrupt(Execution execution) {
        execution.markInterrupted();
        Thread hunter = new Thread(null, () -> hunt(execution), "kernelgate-interrupt", 0, false);
        hunter.setDaemon(true);
        hunter.start();
    }

    private void hunt(Execution execution) {
        long startedAt = System.nanoTime();
        boolean told = false;
        long pause = 5;
        Set<ProcessHandle> processes = new HashSet<>();
        while (true) {
            long elapsedMs = (System.nanoTime() - startedAt) / 1_000_000;
            List<Thread> threads = threadsOf(execution);
            boolean over = threads.isEmpty() && !mustRun(execution);
            // Again and again: one may have been in the making. Not soon, while code runs: what cleans up may need a process.
            if (!told || over || elapsedMs > STOP_AFTER_MS) {
                for (ProcessHandle each : execution.processes()) if (processes.add(each) && told) each.destroy();
            }
            for (Thread each : threads) if (!told || elapsedMs > STOP_AFTER_MS) each.interrupt();
            if (!told) processes.forEach(ProcessHandle::destroy);
            else if (elapsedMs > KILL_AFTER_MS) processes.removeIf(process -> !process.isAlive() || !process.destroyForcibly());
            told = true;
            if (elapsedMs > STOP_AFTER_MS) threads.forEach(each -> stop(execution, each));
            if (elapsedMs > ABANDON_AFTER_MS) abandon(execution);
            processes.removeIf(process -> !process.isAlive());
            // Parts of a parallel stream may wait in the common pool, and have no thread yet. Where it works for others, they are not awaited for ever.
            if (over && processes.isEmpty() && (ForkJoinPool.commonPool().isQuiescent() || elapsedMs > PURSUE_MS)) break;
            // What is left may be stuck for ever. It stays marked: Hooks.poll goes on looking, and it ends where it next does something.
            if (elapsedMs > PURSUE_MS) {
                execution.end();
                return;
            }
            synchronized (this) {
                try {
                    wait(pause);
                } catch (InterruptedException e) {
                    return;
                }
            }
            pause = Math.min(50, pause * 2);
        }
        execution.end();
        execution.forgetInterrupt();
    }

    private synchronized boolean mustRun(Execution execution) {
        return task != null && task.execution == execution && task.outcome == null;
    }

    /** The threads that run, or were started by, an execution: but the user's main thread only while it does. */
    private List<Thread> threadsOf(Execution execution) {
        ThreadGroup root = Thread.currentThread().getThreadGroup();
        while (root.getParent() != null) root = root.getParent();
        Thread[] all = new Thread[root.activeCount() * 2 + 16];
        int count = root.enumerate(all);
        List<Thread> found = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            if (all[i].getName().startsWith("kernelgate-")) continue;
            if (all[i] == thread ? mustRun(execution) : execution.owns(all[i])) found.add(all[i]);
        }
        return found;
    }

    /** Thread.stop, where the JDK still has it, and only where the thread is not in the middle of the kernel's own code. */
    private void stop(Execution execution, Thread target) {
        if (NativeThreads.STOP == null) return;
        StackTraceElement[] stack = target.getStackTrace();
        if (stack.length == 0) return;
        boolean users = false;
        for (StackTraceElement frame : stack) {
            if (Snippets.isUsers(frame.getClassName())) {
                users = true;
                break;
            }
            if (frame.getClassName().startsWith("kernelgate.")) return;
        }
        // An idle thread of a pool is not running anything of the user's.
        if (!users && target != thread) return;
        synchronized (this) {
            if (target == thread && !mustRun(execution)) return;
            if (target == thread) execution.stoppedAt = stack;
            Hooks.unlessStarting(target, () -> NativeThreads.stop(target));
        }
        if (target == thread) NativeThreads.wake(nativeThread);
    }

    private synchronized void abandon(Execution execution) {
        if (!mustRun(execution)) return;
        KeyboardInterrupt error = new KeyboardInterrupt();
        error.setStackTrace(thread.getStackTrace());
        thread = null;
        finish(task, new Outcome(null, error));
    }
}
