package kernelgate;

/** System.in was read where nobody can answer. Unchecked, because Scanner swallows an IOException and reports "No line found". */
public final class StdinNotAllowedException extends IllegalStateException {
    private static final long serialVersionUID = 1;

    StdinNotAllowedException(String why) { super(why); }
}
