"""`kernelgate setup`: makes languages ready.

Words: a *source* folder is a language's folder in `kernelspecs/`; the *installed* folder is its copy in `share/jupyter/kernels/` of kernelgate's environment,
together with what its `install.sh` made there; a *step* is one slow program, shown as one line with the time it took.

The one rule: standard library only, because this runs before anything else is sure to be there. Every part may be repeated, and costs next to nothing when
nothing is to be done; one language that cannot be had never stops the others.
"""

from kernelgate.setup.command import main
from kernelgate.setup.install import Outcome, install

__all__ = ["Outcome", "install", "main"]
