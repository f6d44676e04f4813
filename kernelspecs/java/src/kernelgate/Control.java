package kernelgate;

import java.lang.reflect.Method;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import jdk.jshell.execution.DirectExecutionControl;
import jdk.jshell.execution.LoaderDelegate;
import jdk.jshell.spi.ExecutionControl;
import jdk.jshell.spi.ExecutionControlProvider;
import jdk.jshell.spi.ExecutionEnv;
import jdk.jshell.spi.SPIResolutionException;

/**
 * Where JShell's compiled snippets are loaded and run: in this JVM, on the user's thread. JShell's own engines either start a second JVM
 * or give the value back as text only.
 */
final class Control extends DirectExecutionControl {
    /** Classes of the user's, by name, and the class path he adds. */
    static final class Loader extends URLClassLoader implements LoaderDelegate {
        private final Map<String, byte[]> classes = new ConcurrentHashMap<>();

        Loader() { super("cells", new URL[0], Control.class.getClassLoader()); }

        @Override
        public void load(ClassBytecodes[] loaded) throws ClassInstallException {
            for (ClassBytecodes each : loaded) {
                Snippets.loaded(each.name(), Execution.latest.count);
                classes.put(each.name(), Instrument.rewrite(each.bytecodes()));
            }
            boolean[] installed = new boolean[loaded.length];
            for (int i = 0; i < loaded.length; i++) {
                try {
                    loadClass(loaded[i].name());
                    installed[i] = true;
                } catch (ClassNotFoundException | LinkageError e) {
                    throw new ClassInstallException("load: " + e, installed);
                }
            }
        }

        @Override
        public Class<?> findClass(String name) throws ClassNotFoundException {
            byte[] bytes = classes.remove(name);
            return bytes == null ? super.findClass(name) : defineClass(name, bytes, 0, bytes.length, Control.class.getProtectionDomain());
        }

        @Override
        public void classesRedefined(ClassBytecodes[] redefined) {}

        @Override
        public void addToClasspath(String path) throws InternalException {
            try {
                for (String each : path.split(java.io.File.pathSeparator)) addURL(Path.of(each).toUri().toURL());
            } catch (MalformedURLException e) {
                throw new InternalException(e.toString());
            }
        }
    }

    /** Gives JShell this control and no other. */
    record Provider(Control control) implements ExecutionControlProvider {
        @Override
        public String name() { return "kernelgate"; }

        @Override
        public ExecutionControl generate(ExecutionEnv env, Map<String, String> parameters) { return control; }
    }

    private final Loader loader;
    private final Runner runner;
    /** What the snippet run last gave. */
    private Runner.Outcome outcome;

    Control(Loader loader, Runner runner) {
        super(loader);
        this.loader = loader;
        this.runner = runner;
    }

    Runner.Outcome takeOutcome() {
        Runner.Outcome taken = outcome;
        outcome = null;
        return taken;
    }

    @Override
    public String invoke(String className, String methodName) throws RunException, InternalException {
        Method method;
        try {
            method = loader.loadClass(className).getDeclaredMethod(methodName);
            method.setAccessible(true);
        } catch (ReflectiveOperationException e) {
            throw new InternalException(e.toString());
        }
        outcome = runner.run(Execution.latest, () -> method.invoke(null));
        Throwable error = outcome.error();
        if (error == null) return "";
        // At once: what follows, to the reply, needs memory of its own.
        if (error instanceof OutOfMemoryError) Reserve.release();
        // A static initialiser of the snippet's class hides what went wrong in it.
        if (error instanceof ExceptionInInitializerError && error.getCause() != null) error = error.getCause();
        outcome = new Runner.Outcome(null, error);
        if (error instanceof SPIResolutionException unresolved) throw new ResolutionException(unresolved.id(), error.getStackTrace());
        throw new UserException(String.valueOf(error.getClass()), error.getClass().getName(), error.getStackTrace());
    }
}
