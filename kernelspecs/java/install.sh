#!/usr/bin/env bash
# Makes lib/: JJava's jar (from its Python package, taken out of it and not installed), our classes, and the class archive that
# halves the start-up time. Run in the installed folder; PYTHON names the interpreter whose pip is used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$(pwd -P)
python=${PYTHON:-python3}
version=1.0a8
wheel_sha256=b86ddf2eee6037a33a0adc2ac2f318a94638f42eefaeeeb13db381587e5f2a69
jar_sha256=55f513303f0862ca67fbc21c5da81a40c174d7079945e1b1ad52eb5bbed7bab6

# The archive is bound to this very JDK, to the place and to the time stamps of the jars.
stamp=$(java -version 2>&1; echo "$here"; cat install.sh jvm.options src/kernelgate/*.java | sha256sum)
if [ -f lib/stamp ] && [ "$(cat lib/stamp)" = "$stamp" ] && [ -f lib/kernel.jsa ] && [ -f lib/kernel.jar ] && [ -f lib/jjava.jar ]; then
    exit 0
fi
mkdir -p lib
rm -f lib/stamp lib/kernel.jsa
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! echo "$jar_sha256  lib/jjava.jar" | sha256sum --check --status 2>/dev/null; then
    echo "jjava==$version --hash=sha256:$wheel_sha256" > "$work/requirements.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$work" --requirement "$work/requirements.txt"
    "$python" - "$work" <<'PY'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = [n for n in archive.namelist() if n.endswith("/jjava.jar")]
    (work / "jjava.jar").write_bytes(archive.read(name))
PY
    echo "$jar_sha256  $work/jjava.jar" | sha256sum --check --quiet
    install -m 644 "$work/jjava.jar" lib/jjava.jar
fi

javac -Xlint:all,-removal,-deprecation,-processing,-serial,-options -Werror -XDignore.symbol.file -proc:none \
    -classpath lib/jjava.jar -d "$work/classes" src/kernelgate/*.java
jar --create --file "$work/kernel.jar" -C "$work/classes" .
install -m 644 "$work/kernel.jar" lib/kernel.jar

# One rehearsal: the kernel is started, runs the cells of a usual session, and writes down the classes it has loaded as it ends. Without
# the archive everything works, only slower, so a failure here is reported and not fatal.
if java @jvm.options -XX:ArchiveClassesAtExit="$work/kernel.jsa" -cp "$here/lib/kernel.jar:$here/lib/jjava.jar" kernelgate.Rehearsal \
    > "$work/rehearsal.log" 2>&1 && [ -s "$work/kernel.jsa" ]; then
    install -m 644 "$work/kernel.jsa" lib/kernel.jsa
else
    echo "java: no class archive could be made; the kernel will start slower" >&2
    tail -n 20 "$work/rehearsal.log" >&2
fi
echo "$stamp" > lib/stamp
chmod -R a+rX lib
