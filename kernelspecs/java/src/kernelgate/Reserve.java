package kernelgate;

import java.lang.ref.PhantomReference;
import java.lang.ref.ReferenceQueue;

/**
 * A little heap kept aside once the heap fills up. A cell that runs out of memory leaves its variables behind, and with the heap full
 * the cell that would clear them could not even be compiled.
 */
final class Reserve {
    private static final int BYTES = 8 * 1024 * 1024;
    /** Taken when this share of the heap is in use after a collection, so that a kernel that needs little pays nothing. */
    private static final double FROM_SHARE = 0.2;

    private static final long PAUSE_NS = 20_000_000L;
    private static final long GIVE_UP_NS = 60_000_000_000L;

    private static volatile byte[] kept;

    private Reserve() {}

    static void watch() {
        Thread watcher = new Thread(null, Reserve::run, "kernelgate-reserve", 0, false);
        watcher.setDaemon(true);
        watcher.start();
    }

    /** Each collection of the heap clears the sentinel, and so wakes this thread without a poll. */
    private static void run() {
        ReferenceQueue<Object> collected = new ReferenceQueue<>();
        while (true) {
            try {
                PhantomReference<Object> sentinel = new PhantomReference<>(new Object(), collected);
                collected.remove();
                sentinel.clear();
                take();
            } catch (InterruptedException | OutOfMemoryError e) {
                continue;
            }
        }
    }

    private static void take() {
        Runtime runtime = Runtime.getRuntime();
        long used = runtime.totalMemory() - runtime.freeMemory();
        if (kept == null && used > FROM_SHARE * runtime.maxMemory() && runtime.maxMemory() - used > 4L * BYTES) kept = new byte[BYTES];
    }

    /**
     * Runs the loop of a thread without which the kernel could not answer, and begins it anew where want of memory has thrown it out:
     * it is the user's code that has filled the heap, but the error strikes whoever asks next.
     */
    static void surviving(Runnable loop) {
        long since = 0;
        while (true) {
            try {
                loop.run();
                return;
            } catch (OutOfMemoryError e) {
                release();
                if (since == 0) since = System.nanoTime();
                // The reserve did not help, nor has the cell ended: nothing can be answered any more, and the process must not pretend to live.
                if (System.nanoTime() - since > GIVE_UP_NS) Runtime.getRuntime().halt(70);
                java.util.concurrent.locks.LockSupport.parkNanos(PAUSE_NS);
            }
        }
    }

    /** Gives the reserve back to the heap: called when an execution has failed for want of memory. */
    static void release() { kept = null; }
}
