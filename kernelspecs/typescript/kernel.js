'use strict';
/* The JavaScript kernel beside this folder, with the types taken off before it sees a cell. */
const Module = require('module');
const path = require('path');
const { pathToFileURL } = require('url');
const kernel = path.join(__dirname, '..', 'javascript');
const { start } = require(path.join(kernel, 'kernel.js'));
const { syntaxError } = require(path.join(kernel, 'errors.js'));

const OPTIONS = {
  lang: 'ts',
  sourceType: 'module',
  // What Node 18 does not know (using, accessor) is written in older words.
  target: 'es2022',
  sourcemap: true,
  // Keeps an import whose name only a later cell uses; names of types are simply undefined.
  typescript: { onlyRemoveTypeImports: true },
  decorator: { legacy: true, emitDecoratorMetadata: true },
  // Helpers (of decorators) are taken from a global, because a cell is not a module that could import them.
  helpers: { mode: 'External' },
};

/** A SyntaxError for one of oxc's, whose offsets count bytes of UTF-8. */
function syntaxErrorFor({ message, labels }, source, name) {
  const before = Buffer.from(source).subarray(0, labels[0]?.start ?? 0).toString();
  const lines = before.split('\n');
  const error = syntaxError(message, source, name, lines.length, lines[lines.length - 1].length + 1);
  return Object.defineProperty(error, 'pos', { value: labels.length ? before.length : undefined });
}

async function transpiler() {
  const { transformSync } = await import('oxc-transform');

  Object.defineProperty(globalThis, 'babelHelpers', {
    configurable: true,
    value: new Proxy({}, {
      get: (_, name) => {
        const helper = require(`@oxc-project/runtime/helpers/${String(name)}`);
        return helper.default ?? helper;
      },
    }),
  });

  /** JavaScript for a cell, and how to get back from its positions (line and column from 1). */
  function transpile(source, name) {
    const { code, map, errors } = transformSync('cell.ts', source, OPTIONS);
    const error = errors.find(({ severity }) => severity === 'Error');
    if (error) throw syntaxErrorFor(error, source, name);
    let entries = null; // decoded when a position is asked for
    return {
      code,
      originalPosition(line, column) {
        entries ??= new Module.SourceMap(map);
        const { originalLine, originalColumn } = entries.findEntry(line - 1, column - 1);
        return originalLine === undefined ? { line, column } : { line: originalLine + 1, column: originalColumn + 1 };
      },
    };
  }

  // A thread of Node's own, so it is only made when a file of the user's is imported.
  let hooked = false;
  transpile.beforeImport = (specifier) => {
    if (hooked || !/^(\.{0,2}\/|file:)/.test(specifier) || typeof Module.register !== 'function') return;
    hooked = true;
    Module.register(pathToFileURL(path.join(__dirname, 'hooks.mjs')).href);
  };
  return transpile;
}

start({ name: 'typescript', mimetype: 'text/typescript', file_extension: '.ts', transpiler });
