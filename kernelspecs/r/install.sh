#!/bin/bash
# Compiles session.R, so that an R that starts need not. Repeated only for another R or another session.R.
set -euo pipefail
version=$(R --version | head -n 1)
if [[ -e session.rds && ! session.R -nt session.rds && -e session.version && $(< session.version) == "$version" ]]; then
  exit 0
fi
R --vanilla --no-echo -e '
  main <- eval(parse("session.R", keep.source = FALSE), globalenv())
  saveRDS(list(version = R.version.string, main = compiler::cmpfun(main, list(optimize = 3L))), "session.rds")'
printf '%s\n' "$version" > session.version
