#!/usr/bin/env bash
# Makes the installed folder complete: node_modules, from the lock file, and the JavaScript kernel beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 022 # sessions read it under uids of their own

if [ ! -f ../javascript/install.sh ]; then
  echo "the typescript kernel runs on the javascript kernel: install that first (kernelgate setup javascript)" >&2
  exit 1
fi
bash ../javascript/install.sh

loads() { node --input-type=module -e 'import "oxc-transform"; import "@oxc-project/runtime/helpers/decorate"' 2>/dev/null; }

# The copy of the lock file says what node_modules was made from.
if cmp -s package-lock.json node_modules/.installed-from && loads; then
  exit 0
fi
npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
# For browsers; the compiled addon of this platform is used here.
find node_modules/oxc-transform -name '*.wasm' -delete
loads
cp package-lock.json node_modules/.installed-from
