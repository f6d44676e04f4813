#!/usr/bin/env bash
# Makes the installed folder complete: node_modules, from the lock file. Quick when that is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 022 # sessions read it under uids of their own

loads() { node -e 'require("zeromq"); require("acorn"); require("ijavascript/package.json"); require("nel/lib/mdn.js")' 2>/dev/null; }

# The copy of the lock file says what node_modules was made from.
if cmp -s package-lock.json node_modules/.installed-from && loads; then
  exit 0
fi

# No install scripts: the zeromq package brings its compiled addon (x86-64 and arm64, glibc and musl). The project's
# build of one, elsewhere, would fetch sources that this installation may not have.
npm ci --omit=dev --ignore-scripts --no-audit --no-fund --loglevel=error
if ! loads; then
  echo "the zeromq package has no compiled addon for node $(node --version) on $(uname -sm)" >&2
  exit 1
fi

# Only the addon that this machine loads is kept, and only the loader of the tool that builds addons.
node -e '
  require("zeromq");
  const fs = require("fs"), path = require("path");
  const used = new Set(Object.keys(require.cache).filter((file) => file.endsWith(".node")).map((file) => fs.realpathSync(file)));
  const all = fs.readdirSync("node_modules/zeromq/build", {recursive: true, withFileTypes: false})
    .map((file) => path.resolve("node_modules/zeromq/build", String(file))).filter((file) => file.endsWith(".node"));
  for (const file of all) if (!used.has(file)) fs.rmSync(file);
  for (const file of fs.readdirSync("node_modules/cmake-ts/build")) if (/^main\./.test(file)) fs.rmSync(path.join("node_modules/cmake-ts/build", file));
'
loads
cp package-lock.json node_modules/.installed-from
