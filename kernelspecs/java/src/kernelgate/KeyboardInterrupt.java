package kernelgate;

/** The cell was interrupted. An Error, so that code which catches Exception does not swallow it. */
public final class KeyboardInterrupt extends ThreadDeath {
    private static final long serialVersionUID = 1;

    @Override
    public String getMessage() { return "the execution was interrupted"; }
}
