package kernelgate;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jdk.jshell.SourceCodeAnalysis.SnippetWrapper;

/**
 * Which line of which cell a generated class came from. JShell's own translation of stack traces is not used: it counts lines wrongly
 * in methods, and knows nothing of threads.
 */
final class Snippets {
    /** REPL.$JShell$11.do_it$, REPL.$JShell$11B$Point.norm: JShell's number of the snippet and the class inside it. */
    private static final Pattern CLASS = Pattern.compile("REPL\\.(\\$JShell\\$\\w+)(?:\\$(.*))?");

    private record Place(int cell, int firstLine, SnippetWrapper wrapper) {}

    private static final Map<String, Place> PLACES = new ConcurrentHashMap<>();
    /** The cell during which a class was loaded: known before its place is. */
    private static final Map<String, Integer> CELLS = new ConcurrentHashMap<>();

    private Snippets() {}

    static void loaded(String className, int cell) {
        if (className.indexOf('$', "REPL.$JShell$".length()) < 0) CELLS.putIfAbsent(className, cell);
    }

    static void place(SnippetWrapper wrapper, int cell, int firstLine) {
        PLACES.putIfAbsent(wrapper.fullClassName(), new Place(cell, firstLine, wrapper));
    }

    private static String outer(String className) {
        Matcher match = CLASS.matcher(className);
        return match.matches() ? "REPL." + match.group(1) : null;
    }

    static boolean isUsers(String className) { return className.startsWith("REPL.$JShell$"); }

    /** The cell a class belongs to; 0 for a class that is none of the user's. */
    static int cellOf(String className) {
        if (!isUsers(className)) return 0;
        String outer = outer(className);
        return outer == null ? 0 : CELLS.getOrDefault(outer, 0);
    }

    /** "cell 3:line 2", "divide (cell 3:line 2)", "Point.norm (cell 3:line 2)". */
    static String describe(StackTraceElement frame) {
        Matcher match = CLASS.matcher(frame.getClassName());
        if (!match.matches()) return frame.toString();
        String where = where("REPL." + match.group(1), frame.getLineNumber());
        String method = frame.getMethodName();
        // A lambda's body is a method named after the one around it.
        boolean lambda = method.startsWith("lambda$");
        if (lambda) method = method.substring("lambda$".length()).replaceFirst("\\$+\\d+$", "");
        if (method.equals("do_it") || method.startsWith("do_it$")) method = "";
        String owner = match.group(2) == null ? "" : match.group(2).replace('$', '.');
        String name = owner.isEmpty() ? method : owner + "." + method;
        if (lambda) name = name.isEmpty() ? "lambda" : "lambda in " + name;
        return name.isEmpty() ? where : name + " (" + where + ")";
    }

    private static String where(String outer, int line) {
        Place place = PLACES.get(outer);
        int cell = place == null ? CELLS.getOrDefault(outer, 0) : place.cell;
        if (place == null || line < 1) return "cell " + cell;
        String wrapped = place.wrapper.wrapped();
        int position = 0;
        for (int i = 1; i < line && position >= 0; i++) position = wrapped.indexOf('\n', position) + 1;
        while (position < wrapped.length() && wrapped.charAt(position) <= ' ') position++;
        int end = wrapped.indexOf('\n', position);
        if (end < 0) end = wrapped.length();
        String source = place.wrapper.source();
        // The line may begin with what JShell put around the user's code, which has no place in the source: take the first that has.
        for (; position < end; position++) {
            int at = place.wrapper.wrappedToSourcePosition(position);
            if (at >= 0 && at < source.length() && place.wrapper.sourceToWrappedPosition(at) == position)
                return "cell " + cell + ":line " + (place.firstLine + Text.lineOf(source, at));
        }
        return "cell " + cell + ":line " + place.firstLine;
    }
}
