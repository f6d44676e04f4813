'use strict';
/* Error messages and stack traces that speak of the user's cells only. */
const path = require('path');
const util = require('util');

const REMEMBERED_CELLS = 1000;
const CELL = /\b(cell-\d+):(\d+)(?::(\d+))?/g;
const KERNEL = __dirname + path.sep;

/** Cell name to {source, originalPosition(line, column)}. */
const cells = new Map();

function remember(name, cell) {
  cells.set(name, cell);
  if (cells.size > REMEMBERED_CELLS) cells.delete(cells.keys().next().value);
}

/** The text with positions in the source; null for a place that the source does not have. */
function original(text) {
  let real = true;
  const result = text.replace(CELL, (whole, name, line, column) => {
    const cell = cells.get(name);
    if (!cell) return whole;
    const at = cell.originalPosition(Number(line), Number(column ?? 1));
    real &&= at !== null;
    return at && `${name}:${at.line}${column ? `:${at.column}` : ''}`;
  });
  return real ? result : null;
}

const isCell = (frame) => /^(async )?.*\bcell-\d+:\d+/.test(frame);

/** V8 calls this for every stack that is looked at, so that err.stack, too, is the user's. */
function prepareStackTrace(error, sites) {
  let head;
  try { head = Error.prototype.toString.call(error); } catch { head = '<error>'; }
  const frames = [];
  for (const site of sites) {
    const file = site.getFileName() ?? '';
    if (file.startsWith(KERNEL) || file.startsWith('node:internal/')) continue;
    frames.push(String(site));
  }
  // What is below the outermost frame of a cell is how the kernel called it.
  const last = frames.findLastIndex(isCell);
  const own = last < 0 ? frames.filter((frame) => !/\(node:|^node:/.test(frame)) : frames.slice(0, last + 1);
  return [head, ...own.map(original).filter((frame) => frame !== null).map((frame) => `    at ${frame}`)].join('\n');
}

const BUILTIN = new Set(['Error', 'TypeError', 'RangeError', 'SyntaxError', 'ReferenceError', 'EvalError', 'URIError']);

/** The class the user knows: the name that was set, or else that of the class. */
function className(error) {
  const name = typeof error.name === 'string' && error.name ? error.name : 'Error';
  const own = error.constructor?.name;
  // Node's internal classes are all called NodeError, and their name is right.
  return BUILTIN.has(name) && typeof own === 'string' && own && own !== 'NodeError' ? own : name;
}

/** The line of the cell where the error came up, as Node prints it. */
function excerpt(stack) {
  CELL.lastIndex = 0;
  const at = CELL.exec(stack);
  const line = at && cells.get(at[1])?.source.split('\n')[at[2] - 1];
  if (!line) return [];
  return [`${at[1]}:${at[2]}`, line, at[3] ? `${' '.repeat(at[3] - 1)}^` : '', ''];
}

const isError = (value) => value instanceof Error || util.types.isNativeError(value);

/** Content of an `error` message for anything that was thrown. */
function describe(thrown) {
  try {
    if (!isError(thrown)) {
      const text = typeof thrown === 'string' ? thrown : util.inspect(thrown);
      const ename = thrown !== null && typeof thrown === 'object' ? thrown.constructor?.name ?? 'Object' : typeof thrown;
      return { ename, evalue: text, traceback: [`Uncaught ${util.inspect(thrown)}`] };
    }
    const stack = String(thrown.stack ?? '');
    const body = util.inspect(thrown).split('\n');
    return { ename: className(thrown), evalue: String(thrown.message), traceback: [...(thrown.excerpt ?? excerpt(stack)), ...body] };
  } catch (error) {
    // A getter or an inspect method of the user's threw.
    return { ename: 'Error', evalue: `an error that cannot be shown: ${error?.message}`, traceback: [] };
  }
}

/** A SyntaxError with its place in the cell. */
function syntaxError(message, source, name, line, column) {
  const error = new SyntaxError(`${message} (${line}:${column})`);
  Object.defineProperty(error, 'stack', { value: `SyntaxError: ${error.message}\n    at ${name}:${line}:${column}`, configurable: true, writable: true });
  Object.defineProperty(error, 'excerpt', { value: [`${name}:${line}`, source.split('\n')[line - 1] ?? '', `${' '.repeat(Math.max(0, column - 1))}^`, ''] });
  return error;
}

module.exports = { remember, prepareStackTrace, describe, syntaxError };
