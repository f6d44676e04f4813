package kernelgate;

import java.io.IOException;
import java.net.URI;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import jdk.jshell.Diag;
import jdk.jshell.ErroneousSnippet;
import jdk.jshell.DeclarationSnippet;
import jdk.jshell.JShell;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis;
import jdk.jshell.SourceCodeAnalysis.Completeness;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;
import jdk.jshell.SourceCodeAnalysis.Documentation;
import jdk.jshell.SourceCodeAnalysis.Suggestion;
import jdk.jshell.UnresolvedReferenceException;

/** Cells in terms of JShell's snippets. Used by the shell channel's thread alone. */
final class Engine {
    /** Imported before the first cell, as JShell's default start-up script does, and what a notebook needs besides. */
    private static final String[] IMPORTS = {
        "java.io.*", "java.math.*", "java.net.*", "java.nio.file.*", "java.time.*", "java.util.*", "java.util.concurrent.*",
        "java.util.function.*", "java.util.regex.*", "java.util.stream.*", "static kernelgate.Notebook.*", "kernelgate.Mime",
    };

    /** What a cell came to: a bundle to show or null, and the error or null. */
    record Result(Map<String, Object> bundle, Failure failure) {}

    /** A piece of a cell that JShell takes at once, and where it stands in the cell. */
    private record Part(String source, int offset, List<Diag> syntaxErrors) {}

    private final JShell shell;
    private final SourceCodeAnalysis analysis;
    private final Control.Loader loader = new Control.Loader();
    private final Runner runner = new Runner(loader);
    private final Control control = new Control(loader, runner);

    Engine() {
        shell = JShell.builder().executionEngine(new Control.Provider(control), Map.of())
                .compilerOptions("-classpath", ownClasses(), "-Xlint:-options", "-proc:none").build();
        analysis = shell.sourceCodeAnalysis();
        String classPath = System.getenv("CLASSPATH");
        if (classPath != null && !classPath.isBlank()) shell.addToClasspath(classPath);
        // All at once: each evaluation on its own would cost a run of the compiler.
        shell.eval("import " + String.join("; import ", IMPORTS) + ";");
    }

    /** The jar with this class: cells compile against Notebook and Mime. JJava's jar is not for them, and slow to read. */
    private static String ownClasses() {
        return Path.of(URI.create(Engine.class.getProtectionDomain().getCodeSource().getLocation().toString())).toString();
    }

    /** Runs what a first cell needs, so that its classes are loaded and partly compiled when it comes. */
    void warmUp() {
        for (String source : new String[] {"int kernelgateWarmUp = 1;", "kernelgateWarmUp + 1", "if (kernelgateWarmUp > 1) {}"}) {
            if (Main.wanted) break;
            analysis.analyzeCompletion(source);
            for (SnippetEvent event : shell.eval(source)) shell.drop(event.snippet());
        }
        control.takeOutcome();
    }

    void interrupt(Execution execution) { runner.interrupt(execution); }

    // ---- running ---------------------------------------------------------------------------------------------------------------

    Result run(Execution execution, String code) {
        String java = code;
        List<Part> parts;
        try {
            java = runMagics(code);
            parts = split(java);
        } catch (IllegalArgumentException | IOException e) {
            return new Result(null, new Failure("UsageError", String.valueOf(e.getMessage()), List.of("UsageError: " + e.getMessage())));
        }
        for (Part part : parts)
            if (part.syntaxErrors != null) return new Result(null, compilationError(execution, java, part, part.syntaxErrors));

        List<Part> waiting = new ArrayList<>(parts);
        Set<Snippet> declared = new LinkedHashSet<>();
        Result result = new Result(null, null);
        boolean hoisted = false;
        while (!waiting.isEmpty()) {
            Part part = waiting.remove(0);
            Step step = eval(execution, java, part, declared);
            if (step.diagnostics != null && !hoisted) {
                // The statement may use what is declared further down in the cell: declare that now, and try once more.
                hoisted = true;
                List<Part> declarations = waiting.stream().filter(this::isDeclaration).toList();
                if (!declarations.isEmpty()) {
                    waiting.removeAll(declarations);
                    waiting.add(0, part);
                    waiting.addAll(0, declarations);
                    continue;
                }
            }
            if (step.diagnostics != null) return new Result(null, compilationError(execution, java, part, step.diagnostics));
            if (step.failure != null) return new Result(null, step.failure);
            if (execution.interrupted) return new Result(null, Failure.interrupted(List.of()));
            result = new Result(part == parts.get(parts.size() - 1) ? step.bundle : null, null);
        }
        reportUnresolved(declared);
        return result;
    }

    /** What one part came to: at most one of the three. */
    private record Step(Map<String, Object> bundle, Failure failure, List<Diag> diagnostics) {
        static final Step NOTHING = new Step(null, null, null);
    }

    private Step eval(Execution execution, String cell, Part part, Set<Snippet> declared) {
        if (execution.interrupted) return new Step(null, Failure.interrupted(List.of()), null);
        control.takeOutcome();
        List<SnippetEvent> events = shell.eval(part.source);
        Runner.Outcome outcome = control.takeOutcome();
        int firstLine = 1 + Text.lineOf(cell, part.offset);
        for (SnippetEvent event : events) {
            if (event.status() != Snippet.Status.REJECTED && event.status() != Snippet.Status.NONEXISTENT
                    && event.status() != Snippet.Status.OVERWRITTEN && event.snippet().kind() != Snippet.Kind.IMPORT) {
                // A snippet changed because of this one keeps the cell it was written in.
                boolean own = event.causeSnippet() == null;
                int[] place = own ? new int[] {execution.count, firstLine} : placeOf.getOrDefault(event.snippet().id(), new int[] {execution.count, 1});
                placeOf.put(event.snippet().id(), place);
                Snippets.place(analysis.wrapper(event.snippet()), place[0], place[1]);
            }
        }
        Step step = Step.NOTHING;
        for (SnippetEvent event : events) {
            if (event.causeSnippet() != null) continue;
            Snippet snippet = event.snippet();
            if (event.status() == Snippet.Status.REJECTED) return new Step(null, null, shell.diagnostics(snippet).filter(Diag::isError).toList());
            if (snippet instanceof DeclarationSnippet) declared.add(snippet);
            if (event.exception() instanceof UnresolvedReferenceException unresolved) step = new Step(null, unresolved(unresolved, outcome), null);
            else if (outcome != null && outcome.error() != null) step = new Step(null, failure(execution, outcome.error()), null);
            else if (outcome != null && hasValue(snippet, outcome.value())) step = render(execution, outcome.value());
            // What declares nothing is done with. A temporary variable would keep a value nobody can see alive for ever.
            if (snippet.subKind() == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND || !snippet.kind().isPersistent()) drop(snippet);
        }
        return step;
    }

    /** Cell and first line of each snippet, by JShell's id. */
    private final Map<String, int[]> placeOf = new java.util.HashMap<>();

    private void drop(Snippet snippet) {
        placeOf.remove(snippet.id());
        if (shell.status(snippet).isActive()) shell.drop(snippet);
    }

    private static final Pattern DISPLAY_CALL = Pattern.compile("\\s*(kernelgate\\.)?(Notebook\\.)?display\\s*\\(.*", Pattern.DOTALL);

    private static boolean hasValue(Snippet snippet, Object value) {
        boolean expression = snippet.kind() == Snippet.Kind.EXPRESSION || snippet.subKind() == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND;
        if (!expression || Text.isAssignment(snippet.source())) return false;
        return value == null || value != Notebook.lastId || !DISPLAY_CALL.matcher(snippet.source()).matches();
    }

    /** On the user's thread, since a value's toString is the user's code as much as the cell is. */
    private Step render(Execution execution, Object value) {
        Runner.Outcome outcome = runner.run(execution, () -> Render.bundle(value));
        if (outcome.error() != null) return new Step(null, failure(execution, outcome.error()), null);
        @SuppressWarnings("unchecked") Map<String, Object> bundle = (Map<String, Object>) outcome.value();
        return new Step(bundle, null, null);
    }

    private Failure failure(Execution execution, Throwable error) {
        // Whatever an interrupt made of the code (InterruptedException, a closed channel), it has one name.
        if (execution.interrupted) {
            boolean stopped = error.getClass() == ThreadDeath.class && execution.stoppedAt != null;
            return Failure.interrupted(Failure.frames(stopped ? execution.stoppedAt : error.getStackTrace()));
        }
        Runner.Outcome described = runner.run(execution, () -> Failure.of(error));
        if (described.error() == null) return (Failure) described.value();
        String name = Failure.nameOf(error);
        return new Failure(name, "", List.of(name + " (its message cannot be had: " + Failure.nameOf(described.error()) + ")"));
    }

    // ---- errors of the compiler ------------------------------------------------------------------------------------------------

    private Failure compilationError(Execution execution, String cell, Part part, List<Diag> diagnostics) {
        List<String> values = new ArrayList<>();
        List<String> lines = new ArrayList<>();
        for (Diag each : diagnostics) {
            int offset = Math.min(cell.length(), part.offset + (int) Math.max(0, Math.min(each.getPosition(), part.source.length())));
            // An error at the end of the file is shown after the last thing there is.
            while (offset > 0 && offset >= cell.stripTrailing().length() && cell.charAt(offset - 1) <= ' ') offset--;
            int line = 1 + Text.lineOf(cell, offset);
            // JShell's own class is of no interest to the reader, nor is the empty place it leaves.
            String message = each.getMessage(null).replaceAll("(?m)^\\s*location: +class *$\n?", "").stripTrailing();
            String where = "line " + line + ": " + message;
            if (values.contains(where)) continue;
            values.add(where);
            lines.add("cell " + execution.count + ":line " + line + ": error: " + message);
            String source = Text.lineAt(cell, offset);
            lines.add("    " + source.replace('\t', ' '));
            lines.add("    " + " ".repeat(Math.max(0, Text.columnOf(cell, offset))) + "^");
        }
        lines.add(0, "CompilationError: " + (values.size() == 1 ? "1 error" : values.size() + " errors"));
        return new Failure("CompilationError", String.join("\n", values), lines);
    }

    private Failure unresolved(UnresolvedReferenceException error, Runner.Outcome outcome) {
        String message = missing(error.getSnippet());
        List<String> lines = new ArrayList<>();
        lines.add("UnresolvedReferenceException: " + message);
        if (outcome != null && outcome.error() != null) lines.addAll(Failure.frames(outcome.error().getStackTrace()));
        return new Failure("UnresolvedReferenceException", message, lines);
    }

    private String missing(DeclarationSnippet snippet) {
        List<String> names = shell.unresolvedDependencies(snippet).toList();
        if (!names.isEmpty()) return snippet.name() + " uses what is not defined: " + String.join(", ", names);
        return snippet.name() + " does not compile: " + shell.diagnostics(snippet).map(diag -> diag.getMessage(null)).findFirst().orElse("");
    }

    /** JShell accepts a method that calls what does not exist yet. Right, but whoever has mistyped a name wants to know. */
    private void reportUnresolved(Set<Snippet> declared) {
        for (Snippet each : declared) {
            Snippet.Status status = shell.status(each);
            if (status == Snippet.Status.RECOVERABLE_DEFINED || status == Snippet.Status.RECOVERABLE_NOT_DEFINED)
                System.err.println("note: " + missing((DeclarationSnippet) each));
        }
    }

    // ---- the cell's text -------------------------------------------------------------------------------------------------------

    /** The cell's parts, up to and including the first that does not parse. */
    private List<Part> split(String code) {
        List<Part> parts = new ArrayList<>();
        String rest = code;
        while (true) {
            String stripped = rest.stripLeading();
            int offset = code.length() - stripped.length();
            if (stripped.isEmpty()) return parts;
            CompletionInfo info = analysis.analyzeCompletion(stripped);
            Completeness completeness = info.completeness();
            if (completeness == Completeness.EMPTY) return parts;
            if (!completeness.isComplete()) {
                List<Diag> errors = syntaxErrors(stripped);
                parts.add(new Part(stripped, offset, errors));
                return parts;
            }
            String source = info.source();
            rest = info.remaining();
            // A lone semicolon is a statement of no interest that JShell does not know what to do with.
            if (!source.strip().equals(";")) parts.add(new Part(source, offset, null));
            if (rest.isEmpty() || rest.length() >= stripped.length()) return parts;
        }
    }

    /** What the parser says; null where it says nothing, and the compiler is to be asked in its turn. */
    private List<Diag> syntaxErrors(String source) {
        if (analysis.sourceToSnippets(source).stream().noneMatch(snippet -> snippet instanceof ErroneousSnippet)) return null;
        // What does not parse is not run, so this only brings the messages; after the first one the parser is guessing.
        return shell.eval(source).stream().flatMap(event -> shell.diagnostics(event.snippet())).filter(Diag::isError).limit(1).toList();
    }

    private boolean isDeclaration(Part part) {
        return analysis.sourceToSnippets(part.source).stream().allMatch(snippet -> snippet.kind() == Snippet.Kind.METHOD
                || snippet.kind() == Snippet.Kind.TYPE_DECL || snippet.kind() == Snippet.Kind.IMPORT);
    }

    private static final Pattern MAGIC = Pattern.compile("%(\\w+)[ \\t]*(.*)");

    /** Runs the lines that begin with % before any Java, and returns the cell with them blank, so that its lines keep their numbers. */
    private String runMagics(String code) throws IOException {
        if (!code.stripLeading().startsWith("%")) return code;
        String[] lines = code.split("\n", -1);
        for (int i = 0; i < lines.length; i++) {
            String line = lines[i].strip();
            if (line.isEmpty()) continue;
            Matcher match = MAGIC.matcher(line);
            if (!match.matches()) break;
            String argument = match.group(2).strip();
            switch (match.group(1)) {
                case "classpath" -> shell.addToClasspath(argument);
                case "jars" -> addJars(argument);
                default -> throw new IllegalArgumentException("there is no magic %" + match.group(1) + "; there are %classpath PATH and %jars GLOB");
            }
            lines[i] = "";
        }
        return String.join("\n", lines);
    }

    private void addJars(String pattern) throws IOException {
        Path path = Path.of(pattern);
        Path folder = path.getParent() == null ? Path.of(".") : path.getParent();
        boolean any = false;
        try (DirectoryStream<Path> found = Files.newDirectoryStream(folder, path.getFileName().toString())) {
            for (Path jar : found) {
                shell.addToClasspath(jar.toString());
                any = true;
            }
        }
        if (!any) throw new IllegalArgumentException("no file matches " + pattern);
    }

    // ---- questions about code --------------------------------------------------------------------------------------------------

    Map<String, Object> complete(String code, int cursor) {
        int[] anchor = {cursor};
        Set<String> matches = new LinkedHashSet<>();
        List<Suggestion> suggestions = new ArrayList<>(analysis.completionSuggestions(code, cursor, anchor));
        // What fits the type expected here comes first.
        for (boolean fitting : new boolean[] {true, false})
            for (Suggestion each : suggestions) if (each.matchesType() == fitting) matches.add(each.continuation());
        int start = matches.isEmpty() ? cursor : anchor[0];
        return Json.map("status", "ok", "matches", matches, "cursor_start", code.codePointCount(0, start),
                "cursor_end", code.codePointCount(0, cursor), "metadata", Map.of());
    }

    Map<String, Object> inspect(String code, int cursor) {
        int from = cursor;
        while (from > 0 && Character.isJavaIdentifierPart(code.charAt(from - 1))) from--;
        int to = cursor;
        while (to < code.length() && Character.isJavaIdentifierPart(code.charAt(to))) to++;
        StringBuilder text = new StringBuilder();
        // Within an argument list JShell describes the method called; on its name it wants the bracket to be there.
        if (from < to) {
            String head = code.substring(0, to);
            describe(text, analysis.documentation(head, to, true));
            if (text.length() == 0) describe(text, analysis.documentation(head + "(", to + 1, true));
            if (text.length() == 0) {
                String type = analysis.analyzeType(head, to);
                if (type != null) text.append(type).append(' ').append(code, from, to);
            }
        }
        if (text.length() == 0) describe(text, analysis.documentation(code, cursor, true));
        Map<String, Object> data = text.length() == 0 ? Map.of() : Map.of("text/plain", text.toString());
        return Json.map("status", "ok", "found", text.length() > 0, "data", data, "metadata", Map.of());
    }

    private static void describe(StringBuilder text, List<Documentation> documentation) {
        for (Documentation each : documentation) {
            if (text.length() > 0) text.append('\n');
            text.append(each.signature());
            String comment = each.javadoc();
            if (comment != null && !comment.isBlank())
                text.append('\n').append(comment.replaceAll("<[^>]+>", "").replaceAll("(?m)^", "    ").stripTrailing());
        }
    }

    Map<String, Object> isComplete(String code) {
        String rest = code;
        while (true) {
            CompletionInfo info = analysis.analyzeCompletion(rest);
            switch (info.completeness()) {
                case DEFINITELY_INCOMPLETE: {
                    String last = code.substring(code.lastIndexOf('\n') + 1);
                    String indent = last.substring(0, last.length() - last.stripLeading().length());
                    return Map.of("status", "incomplete", "indent", last.stripTrailing().endsWith("{") ? indent + "    " : indent);
                }
                case UNKNOWN: return Map.of("status", "invalid");
                default: break;
            }
            if (info.remaining().isBlank() || info.remaining().length() >= rest.length()) return Map.of("status", "complete");
            rest = info.remaining();
        }
    }

    /** The value of an expression asked for by the request itself (user_expressions). */
    Map<String, Object> expression(Execution execution, String source) {
        Result result = run(execution, source);
        if (result.failure != null) {
            Map<String, Object> content = result.failure.content();
            content.put("status", "error");
            return content;
        }
        return Json.map("status", "ok", "data", result.bundle == null ? Map.of() : result.bundle, "metadata", Map.of());
    }
}
