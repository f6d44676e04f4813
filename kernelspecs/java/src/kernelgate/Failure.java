package kernelgate;

import java.util.ArrayList;
import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** An error as Jupyter shows it. */
record Failure(String ename, String evalue, List<String> traceback) {
    /** Of a deep recursion, the first and the last frames are enough. */
    private static final int SHOWN_FIRST = 30;
    private static final int SHOWN_LAST = 10;

    Map<String, Object> content() { return Json.map("ename", ename, "evalue", evalue, "traceback", traceback); }

    static Failure interrupted(List<String> where) {
        KeyboardInterrupt error = new KeyboardInterrupt();
        List<String> lines = new ArrayList<>();
        lines.add("KeyboardInterrupt: " + error.getMessage());
        lines.addAll(where);
        return new Failure("KeyboardInterrupt", error.getMessage(), lines);
    }

    static Failure of(Throwable error) {
        List<String> lines = new ArrayList<>();
        describe(error, "", "", lines, Collections.newSetFromMap(new IdentityHashMap<>()));
        return new Failure(nameOf(error), messageOf(error), lines);
    }

    static String nameOf(Throwable error) {
        Class<?> type = error.getClass();
        while (type.isAnonymousClass()) type = type.getSuperclass();
        return type.getSimpleName();
    }

    private static String messageOf(Throwable error) {
        String message = error.getLocalizedMessage();
        return message == null ? "" : message;
    }

    private static void describe(Throwable error, String indent, String label, List<String> lines, Set<Throwable> seen) {
        String message = messageOf(error);
        lines.add(indent + label + nameOf(error) + (message.isEmpty() ? "" : ": " + message));
        if (!seen.add(error)) return;
        for (String frame : frames(error.getStackTrace())) lines.add(indent + frame);
        for (Throwable each : error.getSuppressed()) describe(each, indent + "    ", "Suppressed: ", lines, seen);
        if (error.getCause() != null) describe(error.getCause(), indent, "Caused by: ", lines, seen);
    }

    /** The user's frames, and what they called of the JDK or of libraries; nothing of the kernel, nor of what called the user's code. */
    static List<String> frames(StackTraceElement[] stack) {
        int bottom = stack.length;
        for (int i = 0; i < stack.length; i++) if (Snippets.isUsers(stack[i].getClassName())) bottom = i + 1;
        List<String> lines = new ArrayList<>();
        for (int i = 0; i < bottom; i++) {
            String owner = stack[i].getClassName();
            if (owner.startsWith("kernelgate.") || owner.startsWith("jdk.jshell.") || owner.startsWith("org.dflib.jjava.")) continue;
            if (bottom == stack.length && owner.startsWith("jdk.internal.reflect.")) continue;
            lines.add("    at " + Snippets.describe(stack[i]));
        }
        int hidden = lines.size() - SHOWN_FIRST - SHOWN_LAST;
        if (hidden <= 1) return lines;
        List<String> shown = new ArrayList<>(lines.subList(0, SHOWN_FIRST));
        shown.add("    ... " + hidden + " frames left out ...");
        shown.addAll(lines.subList(SHOWN_FIRST + hidden, lines.size()));
        return shown;
    }
}
