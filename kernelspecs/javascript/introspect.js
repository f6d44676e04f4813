'use strict';
/* complete, inspect, is_complete. */
const fs = require('fs');
const { builtinModules } = require('module');
const util = require('util');
const vm = require('vm');
const { K, parse } = require('./rewrite.js');

const KEYWORDS = ['async', 'await', 'break', 'case', 'catch', 'class', 'const', 'continue', 'debugger', 'default', 'delete', 'do', 'else',
  'export', 'extends', 'false', 'finally', 'for', 'function', 'if', 'import', 'in', 'instanceof', 'let', 'new', 'null', 'of', 'return',
  'static', 'super', 'switch', 'this', 'throw', 'true', 'try', 'typeof', 'undefined', 'var', 'void', 'while', 'with', 'yield'];

// A name followed by properties and literal indices: evaluating it runs no code but getters.
const CHAIN = /[\p{ID_Start}$_][\p{ID_Continue}$]*(?:\?\.[\p{ID_Start}$_][\p{ID_Continue}$]*|\.[\p{ID_Start}$_][\p{ID_Continue}$]*|\[(?:\d+|'[^'\\\n]*'|"[^"\\\n]*")\])*$/u;
const NAME = /[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

/** Jupyter counts characters (code points), JavaScript UTF-16 units. */
const toUnits = (code, position) => [...code].slice(0, position).join('').length;
const toPoints = (code, units) => [...code.slice(0, units)].length;

function evaluate(expression) {
  try {
    return { value: vm.runInThisContext(`(${expression})`, { timeout: 200 }) };
  } catch {
    return null;
  }
}

function propertiesOf(value) {
  const names = new Set();
  for (let object = Object(value); object; object = Object.getPrototypeOf(object)) {
    for (const name of Object.getOwnPropertyNames(object)) {
      if (!/^\d+$/.test(name)) names.add(name);
    }
  }
  return [...names];
}

function modules(prefix, { requireFrom }) {
  const names = new Set(builtinModules.filter((name) => !name.startsWith('_')).flatMap((name) => [name, `node:${name}`]));
  for (const folder of requireFrom(process.cwd()).resolve.paths('x') ?? []) {
    let entries = [];
    try { entries = fs.readdirSync(folder); } catch { continue; }
    for (const entry of entries) if (!entry.startsWith('.')) names.add(entry);
  }
  return [...names].filter((name) => name.startsWith(prefix));
}

const identifier = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;

function complete({ code, cursor_pos: position }, context) {
  const cursor = toUnits(code, position);
  const before = code.slice(0, cursor);
  let matches;
  let start = cursor;

  const inModule = /(?:\brequire\(\s*|\bimport\(\s*|\bfrom\s+|\bimport\s+)(['"])([^'"\n]*)$/.exec(before);
  const inIndex = /\[(['"])([^'"\n]*)$/.exec(before);
  const word = NAME.exec(before)?.[0] ?? '';
  const head = before.slice(0, before.length - word.length);
  if (inModule) {
    start = cursor - inModule[2].length;
    matches = modules(inModule[2], context);
  } else if (inIndex && CHAIN.test(before.slice(0, inIndex.index))) {
    start = cursor - inIndex[2].length;
    const base = evaluate(CHAIN.exec(before.slice(0, inIndex.index))[0]);
    matches = base && base.value !== null && base.value !== undefined
      ? propertiesOf(base.value).filter((name) => name.startsWith(inIndex[2]) && !name.includes(inIndex[1])) : [];
  } else if (/\?\.$|\.$/.test(head) && !/\.\.$/.test(head)) {
    start = cursor - word.length;
    const owner = head.replace(/\??\.$/, '').trimEnd();
    const chain = CHAIN.exec(owner)?.[0];
    const base = chain && !/[\d.]$/.test(owner.slice(0, -chain.length)) ? evaluate(chain)
      : /['"`]$/.test(owner) ? { value: '' } : /\]$/.test(owner) ? { value: [] } : null;
    matches = base && base.value !== null && base.value !== undefined
      ? propertiesOf(base.value).filter((name) => name.startsWith(word) && identifier.test(name)) : [];
  } else {
    start = cursor - word.length;
    // Names this cell declares before the cursor, those of earlier cells, globals, keywords.
    const local = [...before.matchAll(/\b(?:const|let|var|function\*?|class)\s+([\p{ID_Start}$_][\p{ID_Continue}$]*)/gu)].map((m) => m[1]);
    matches = [...new Set([...local, ...context.declared, ...propertiesOf(globalThis), ...KEYWORDS])]
      .filter((name) => name.startsWith(word) && name !== K && identifier.test(name));
  }
  const plain = (name) => name.startsWith('_') || name.startsWith('$$');
  matches.sort((a, b) => plain(a) - plain(b) || (a < b ? -1 : a > b ? 1 : 0));
  return { status: 'ok', matches, cursor_start: toPoints(code, start), cursor_end: position, metadata: {} };
}

/** MDN's words about a builtin, as IJavascript ships them. */
function documentation(expression, value) {
  const mdn = require('nel/lib/mdn.js');
  const names = [expression];
  const name = expression.split('.').pop();
  const owner = expression.includes('.') ? evaluate(expression.slice(0, expression.lastIndexOf('.'))) : null;
  for (let object = owner && owner.value !== null && owner.value !== undefined ? Object(owner.value) : null; object; object = Object.getPrototypeOf(object)) {
    if (object.constructor?.name) names.push(`${object.constructor.name}.prototype.${name}`);
  }
  if (typeof value === 'function' && value.name) names.push(value.name);
  const found = names.find((candidate) => Object.hasOwn(mdn, candidate));
  return found ? mdn[found] : null;
}

function inspect({ code, cursor_pos: position }) {
  const cursor = toUnits(code, position);
  const after = /^[\p{ID_Continue}$]*/u.exec(code.slice(cursor))[0];
  // In the arguments of a call it is the function that is asked about.
  const before = (code.slice(0, cursor) + after).replace(/\([^()]*$/, '');
  const chain = CHAIN.exec(before)?.[0];
  const found = chain && !KEYWORDS.includes(chain) ? evaluate(chain) : null;
  if (!found) return { status: 'ok', found: false, data: {}, metadata: {} };
  const { value } = found;
  const lines = [];
  if (typeof value === 'function') {
    const source = Function.prototype.toString.call(value);
    const kind = /^class\b/.test(source) ? 'class' : util.types.isAsyncFunction(value) ? 'async function' : 'function';
    lines.push(`${chain}: ${kind}`);
    lines.push(source.includes('[native code]') ? `function ${value.name}() [native, ${value.length} parameters]` : source.slice(0, 4000));
  } else {
    const type = value === null ? 'null' : typeof value === 'object' ? Object.getPrototypeOf(value)?.constructor?.name ?? 'Object' : typeof value;
    lines.push(`${chain}: ${type}`, util.inspect(value, { depth: 1, maxArrayLength: 20, maxStringLength: 500 }));
  }
  const doc = documentation(chain, value);
  if (doc) lines.push('', ...[doc.usage, doc.description, doc.url].filter(Boolean));
  return { status: 'ok', found: true, data: { 'text/plain': lines.join('\n') }, metadata: {} };
}

/** Some parsers call an open template a string. */
const openTemplate = (error, code) => /^Unterminated string/i.test(error.message) && code[error.pos] === '`';

function isComplete({ code }, { transpile }) {
  try {
    const source = transpile ? transpile(code, 'cell').code : code;
    parse(source);
    return { status: 'complete' };
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    // Incomplete where the text ends too soon, or inside something that only its end mark ends.
    const atEnd = error.pos !== undefined && error.pos >= code.trimEnd().length;
    if (!atEnd && !/^Unterminated (template|comment|multi-?line comment)/i.test(error.message) && !openTemplate(error, code)) return { status: 'invalid' };
    const lastLine = code.trimEnd().split('\n').pop();
    const indent = /^\s*/.exec(lastLine)[0] + (/[{([]$/.test(lastLine) ? '  ' : '');
    return { status: 'incomplete', indent };
  }
}

module.exports = { complete, inspect, isComplete };
