/* Lets cells import the user's .ts files, with or without the extension, and those import others. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'oxc-transform';

const TYPESCRIPT = /\.[cm]?tsx?$/;

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    if (!/^(\.{0,2}\/|file:)/.test(specifier)) throw error;
    // As compilers do: './x' and './x.js' may mean './x.ts'.
    const stem = specifier.replace(/\.([cm]?)js$/, '.$1');
    const candidates = stem.endsWith('.') || /\.[cm]$/.test(stem) ? [`${stem}ts`] : [`${specifier}.ts`, `${specifier}.tsx`, `${specifier}/index.ts`];
    for (const candidate of candidates) {
      try {
        return await next(candidate, context);
      } catch { /* the next one */ }
    }
    throw error;
  }
}

export async function load(url, context, next) {
  const { pathname } = new URL(url);
  if (!url.startsWith('file:') || !TYPESCRIPT.test(pathname) || pathname.includes('/node_modules/')) return next(url, context);
  const source = await readFile(fileURLToPath(url), 'utf8');
  const { code, errors } = transformSync(fileURLToPath(url), source, {
    decorator: { legacy: true }, helpers: { mode: 'External' }, sourceType: 'module',
  });
  const error = errors.find(({ severity }) => severity === 'Error');
  if (error) throw new SyntaxError(`${error.message}\n${error.codeframe ?? ''}`);
  return { format: 'module', source: code, shortCircuit: true };
}
