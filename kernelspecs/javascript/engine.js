'use strict';
/* The main thread: runs cells, one at a time, and keeps them apart. See kernel.js for the whole picture. */
const { AsyncLocalStorage } = require('async_hooks');
const childProcess = require('child_process');
const { Console } = require('console');
const fs = require('fs');
const Module = require('module');
const path = require('path');
const { Readable, Writable } = require('stream');
const timers = require('timers');
const { pathToFileURL } = require('url');
const util = require('util');
const vm = require('vm');
const { receiveMessageOnPort } = require('worker_threads');
const { K, rewrite } = require('./rewrite.js');
const { remember, prepareStackTrace, describe, syntaxError } = require('./errors.js');
const { defaultMimer, bundleText, interfaceFor } = require('./display.js');
const { ANY_INTERRUPT, INTERRUPTED, BARRIER, ALL_SENT, INPUT } = require('./shared.js');

// The user may replace or wrap these.
const { setImmediate, clearInterval } = timers;
const { writeSync } = fs;
const { stringify } = JSON;

class KeyboardInterrupt extends Error {
  constructor() {
    super('the execution was interrupted');
    this.name = 'KeyboardInterrupt';
    this.stack = `${this.name}: ${this.message}`;
  }
}

class InputError extends Error {
  constructor(message) {
    super(message);
    this.name = 'InputError';
  }
}

let worker;
let flags;
let inputPort;
let transpile = null;

/** Which cell the code that runs now belongs to, also in timers and after awaits. */
const store = new AsyncLocalStorage();
let current = null; // the cell being executed
let latest = null; // the one before, when none is
let started = 0; // id of the last execution that was begun
const cellNow = () => store.getStore() ?? current ?? latest;

const post = (message) => worker.postMessage(message);

// -------------------------------------------------------------------------------------------------- output

/** The way the last output went: 'stdout', 'stderr', 'port', 'child', or null when all is delivered. */
let way = null;
let barriers = 0;

/** Messages posted without a barrier: their queue has no bound of its own. */
let unconfirmed = 0;
const MAX_UNCONFIRMED = 100;

/** Waits until the protocol thread has taken all output so far, if the next one goes another way. */
function goBy(next) {
  if (way !== null && way !== next) barrier(1000);
  else if (next === 'port' && ++unconfirmed > MAX_UNCONFIRMED) barrier(1000);
  way = next;
}

function barrier(ms) {
  const number = ++barriers;
  unconfirmed = 0;
  post({ type: 'barrier', number });
  const deadline = Date.now() + ms;
  for (;;) {
    const passed = Atomics.load(flags, BARRIER);
    if (passed >= number) return;
    // A slow reader of the output makes this wait; only an ending process must not.
    if (Atomics.wait(flags, BARRIER, passed, ms) === 'timed-out' && ending && Date.now() > deadline) return;
  }
}

let ending = false;

const DESCRIPTORS = { stdout: 1, stderr: 2 };

function write(name, chunk, encoding) {
  const cell = store.getStore();
  if (cell?.dead) return;
  if (cell && cell !== (current ?? latest)) {
    goBy('port');
    post({ type: 'stream', id: cell.id, name, text: typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString() });
    return;
  }
  goBy(name);
  let bytes = typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk;
  while (bytes.length) {
    try {
      bytes = bytes.subarray(writeSync(DESCRIPTORS[name], bytes));
    } catch (error) {
      // A child that shares the descriptor may have made it non-blocking.
      if (error.code !== 'EAGAIN') throw error;
      Atomics.wait(nothing, 0, 0, 1);
    }
  }
}

const nothing = new Int32Array(new SharedArrayBuffer(4));

/**
 * process.stdout and process.stderr: synchronous, so that nothing is lost by an exit. Of Writable only the shape
 * is used: its state would stay "writing" for ever when an interrupt stops the code inside a write.
 */
class Output extends Writable {
  constructor(name) {
    super();
    this.name = name;
    this.fd = DESCRIPTORS[name];
    this._type = 'pipe';
    this._isStdio = true;
  }

  write(chunk, encoding, callback) {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
      throw new TypeError(`The "chunk" argument must be of type string or an instance of Buffer or Uint8Array. Received ${util.inspect(chunk)}`);
    }
    write(this.name, chunk, encoding);
    if (callback) process.nextTick(callback, null);
    return true;
  }

  // Like Node's: they outlive whoever ends them.
  end(chunk, encoding, callback) {
    if (typeof chunk === 'function') [chunk, callback] = [undefined, chunk];
    if (chunk !== undefined && chunk !== null) this.write(chunk, encoding);
    if (typeof callback === 'function') process.nextTick(callback);
    return this;
  }

  cork() {}
  uncork() {}
  destroy() { return this; }
}

/** process.stdin of one cell: each read is a request for a line. */
class Input extends Readable {
  constructor(cell) {
    super({ highWaterMark: 0 });
    this.fd = 0;
    this.cell = cell;
  }

  _read() {
    const line = ask(this.cell, '', false);
    this.cell.hold(line.then((text) => this.push(`${text}\n`), (error) => {
      this.push(null);
      // A read that waits for an event would hang for ever.
      this.cell.fail(error);
    }));
  }
}

// --------------------------------------------------------------------------------------------------- input

const questions = new Map();
let asked = 0;

function ask(cell, prompt, password) {
  return new Promise((resolve, reject) => {
    const seq = ++asked;
    questions.set(seq, { resolve, reject });
    goBy('port');
    post({ type: 'input', id: cell?.id ?? 0, prompt, password, sync: false, seq });
  });
}

/** Asks for a line and blocks, as a browser's prompt() and Python's input() do. */
function prompt(text = '') {
  const cell = cellNow();
  while (receiveMessageOnPort(inputPort)); // what an interrupted call left
  const before = Atomics.load(flags, INPUT);
  goBy('port');
  post({ type: 'input', id: cell?.id ?? 0, prompt: String(text), password: false, sync: true, seq: 0 });
  while (Atomics.load(flags, INPUT) === before) Atomics.wait(flags, INPUT, before);
  const { value, error } = receiveMessageOnPort(inputPort).message;
  if (error) throw new InputError(error);
  return value;
}

// --------------------------------------------------------------------------------------------------- cells

/** Names declared by cells, as `let` in the global scope, and those of them that are constants. */
const declared = new Set();
const constants = new Set();

function declare(names) {
  const fresh = names.filter((name) => !declared.has(name));
  if (!fresh.length) return;
  try {
    vm.runInThisContext(`let ${fresh.join(', ')};`);
  } catch {
    for (const name of fresh) {
      // A global variable of that name exists (made by an indirect eval): the cell assigns to that.
      try { vm.runInThisContext(`let ${name};`); } catch { /* see above */ }
    }
  }
  for (const name of fresh) declared.add(name);
}

const config = { awaitExecution: true };
const mimer = (value) => (typeof globalThis.$$mimer$$ === 'function' ? globalThis.$$mimer$$ : defaultMimer)(value);

class Cell {
  constructor({ id, count, code, env, expressions }) {
    this.id = id;
    this.name = `cell-${count}`;
    this.code = code;
    this.env = env;
    this.expressions = expressions;
    this.saved = {};
    this.displays = new Set();
    this.config = config;
    this.mimer = mimer;
    this.isAsync = false; // $$.async(): ends by $$.done() and the like only
    this.holds = 0;
    this.codeEnded = false;
    this.ended = false;
    this.dead = false; // interrupted: nothing of it may go on
    this.value = undefined;
    this.explicit = false; // the value was given by $$.sendResult() and the like
    this.constants = [];
    this.error = null;
    this.api = interfaceFor(this);
  }

  publish(name, content) {
    if (this.dead) return;
    goBy('port');
    post({ type: 'publish', id: this.id, name, content });
  }

  input(text, password) { return ask(this, text, password); }

  get stdin() { return (this.input_ ??= new Input(this)); }

  setEnvironment() {
    for (const [name, value] of Object.entries(this.env ?? {})) {
      this.saved[name] = process.env[name];
      process.env[name] = String(value);
    }
  }

  restoreEnvironment() {
    for (const [name, value] of Object.entries(this.saved)) {
      if (value === undefined) delete process.env[name]; else process.env[name] = value;
    }
    this.saved = {};
  }

  /** The execution does not end before the promise does. */
  hold(promise) {
    this.holds++;
    const release = () => { this.holds--; this.endSoon(); };
    promise.then(release, (error) => { this.fail(error); release(); });
  }

  finish(...value) {
    if (this.ended) return;
    if (value.length || this.isAsync) {
      this.value = value[0];
      this.explicit = true;
    }
    this.isAsync = false;
    this.codeEnded = true;
    this.holds = 0;
    this.endSoon();
  }

  fail(error) {
    if (this.ended) return;
    this.error ??= { error };
    this.finish();
  }

  endSoon() {
    if (this.ended || !this.codeEnded || this.isAsync || this.holds > 0) return;
    // Microtasks and ticks that the cell made are still of the cell.
    setImmediate(() => {
      if (this.codeEnded && !this.isAsync && this.holds <= 0) end(this);
    });
  }

  async run() {
    const { script, isAsync } = await prepare(this);
    let value = script.runInThisContext({ displayErrors: false });
    if (isAsync === null) kernel.value(value); // could not be rewritten: V8's completion value
    else if (isAsync) await value;
    // Only promises: to await any thenable would, for example, send a query that is being built.
    if (config.awaitExecution !== false && util.types.isPromise(this.value) && !this.isAsync) kernel.value(await this.value);
  }
}

/** Compiles a cell; declares its names. */
function prepare(cell) {
  if (!transpile) return compile(cell, cell.code, (line, column) => ({ line, column }));
  const { code, originalPosition } = transpile(cell.code, cell.name);
  return compile(cell, code, originalPosition);
}

function compile(cell, code, toSource) {
  let rewritten = null;
  let failure = null;
  try {
    rewritten = rewrite(code, constants);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    failure = error;
  }
  const map = rewritten ? (line, column) => {
    const at = rewritten.text.originalPosition(line, column);
    return at && toSource(at.line, at.column);
  } : toSource;
  remember(cell.name, { source: cell.code, originalPosition: map });
  let script;
  try {
    script = new vm.Script(rewritten ? rewritten.text.code : code, { filename: cell.name });
  } catch (error) {
    throw explain(cell, error, failure, code, map, toSource);
  }
  if (rewritten) {
    declare(rewritten.names);
    for (const name of rewritten.names) constants.delete(name);
    cell.constants = rewritten.constants;
  }
  return { script, isAsync: rewritten ? rewritten.isAsync : null };
}

/** The better of two messages about a cell that does not compile: V8's, unless V8 does not know cells. */
function explain(cell, error, failure, code, map, toSource) {
  const place = (stack) => {
    const [, line, arrow] = /^cell-\d+:(\d+)\n.*\n( *)\^/.exec(stack) ?? [];
    return line ? [Number(line), arrow.length + 1] : null;
  };
  let best = error;
  let at = place(String(error.stack));
  if (failure && /await|import|export|module/.test(error.message)) {
    best = null;
    if (!/\b(im|ex)port\b/.test(code)) {
      try { new vm.Script(`(async () => {${code}\n})`, { filename: cell.name, columnOffset: -14 }); } catch (other) {
        best = other;
        at = place(String(other.stack));
        if (at && at[0] === 1) at[1] = Math.max(1, at[1] - 14);
      }
    }
  }
  if (!best || !at) {
    const { line, column } = failure?.loc ?? { line: 1, column: 0 };
    const message = best?.message ?? failure.message.replace(/ \(\d+:\d+\)$/, '');
    const source = toSource(line, column + 1);
    return syntaxError(message, cell.code, cell.name, source.line, source.column);
  }
  const source = failure ? toSource(...at) : map(...at) ?? { line: 1, column: 1 };
  return syntaxError(best.message, cell.code, cell.name, source.line, source.column);
}

function begin(message) {
  started = message.id;
  way = null;
  const cell = current = new Cell(message);
  cell.setEnvironment();
  store.run(cell, () => {
    cell.run().then(() => { cell.codeEnded = true; cell.endSoon(); }, (error) => cell.fail(error));
  });
}

/** Text of the reply's user_expressions. */
function evaluate(expressions) {
  const results = {};
  for (const [name, expression] of Object.entries(expressions)) {
    try {
      results[name] = { status: 'ok', data: JSON.parse(bundleText(mimer(vm.runInThisContext(expression)))), metadata: {} };
    } catch (error) {
      results[name] = { status: 'error', ...describe(error) };
    }
  }
  return stringify(results);
}

function end(cell) {
  if (cell !== current || cell.ended) return;
  let outcome;
  store.run(cell, () => {
    try {
      if (cell.error) throw cell.error.error;
      // Of a cell that failed nobody knows which were assigned, so they stay assignable.
      for (const name of cell.constants) constants.add(name);
      const result = cell.value === undefined ? null : bundleText(mimer(cell.value));
      outcome = { result, error: null, expressions: evaluate(cell.expressions) };
    } catch (error) {
      outcome = { result: null, error: describe(error), expressions: '{}' };
    }
  });
  close(cell, outcome);
}

function close(cell, outcome) {
  // The order matters when the thread is stopped in the middle of this: `current` goes last.
  cell.restoreEnvironment();
  cell.ended = true;
  cell.value = undefined;
  cell.input_?.destroy();
  post({ type: 'executed', id: cell.id, ...outcome });
  latest = cell;
  current = null;
  way = null;
}

function interrupted({ id, ping }) {
  if (id && id === current?.id) {
    current.dead = true;
    close(current, { result: null, error: describe(new KeyboardInterrupt()), expressions: '{}' });
  } else if (id > started) {
    // The request itself was lost when the thread was stopped.
    started = id;
    post({ type: 'executed', id, result: null, error: describe(new KeyboardInterrupt()), expressions: '{}' });
  }
  post({ type: 'pong', ping });
}

// ------------------------------------------------------------------------------------------ the environment

/** What rewritten cells call. */
const kernel = {
  v: undefined,
  never: undefined,
  off() {
    if (flags[ANY_INTERRUPT] === 0) return false;
    const cell = store.getStore();
    return cell !== undefined && (cell.dead || cell.id === flags[INTERRUPTED]);
  },
  take() {
    const value = this.v;
    this.v = undefined;
    return value;
  },
  value(value) {
    const cell = store.getStore() ?? current;
    if (cell && !cell.explicit) cell.value = value;
  },
  /** For the callbacks of promises. */
  callback(f) {
    if (typeof f !== 'function') return f;
    return function (...args) { return kernel.off() ? kernel.never : f.apply(this, args); };
  },
  constant() { throw new TypeError('Assignment to constant variable.'); },
  import(specifier, options) {
    transpile?.beforeImport(String(specifier));
    return importFrom(process.cwd())(String(specifier), options);
  },
  pick(module, name, specifier) {
    // In TypeScript the name may be that of a type, which is nothing at run time.
    if (!(name in module) && !transpile) {
      throw new SyntaxError(`The requested module '${specifier}' does not provide an export named '${name}'`);
    }
    return module[name];
  },
  get meta() {
    const filename = path.join(process.cwd(), 'cell.js');
    return {
      url: pathToFileURL(filename).href, filename, dirname: process.cwd(),
      resolve: (specifier) => /^\.{0,2}\//.test(specifier) ? new URL(specifier, pathToFileURL(filename)).href
        : specifier.startsWith('node:') ? specifier : pathToFileURL(Module.createRequire(filename).resolve(specifier)).href,
    };
  },
};
// Collectable, with all that waits for it.
Object.defineProperty(kernel, 'never', { get: () => new Promise(() => {}) });

/** Something that is made once per directory; cells change directory rarely. */
function perDirectory(make) {
  let directory;
  let made;
  return (cwd) => {
    if (cwd !== directory) made = make(directory = cwd);
    return made;
  };
}

const importFrom = perDirectory((cwd) => {
  // import() resolves from the file it stands in, so it is put in a module of that directory.
  const module = new Module(path.join(cwd, 'cell.js'));
  module._compile('module.exports = (specifier, options) => options ? import(specifier, options) : import(specifier);', module.id);
  return module.exports;
});

const requireFrom = perDirectory((cwd) => Module.createRequire(path.join(cwd, 'cell.js')));

function defineGlobals() {
  const define = (name, descriptor) => Object.defineProperty(globalThis, name, { configurable: true, enumerable: false, ...descriptor });
  const settable = (name, get) => define(name, { get, set: (value) => define(name, { value, writable: true }) });

  define(K, { value: kernel, configurable: false });
  settable('$$', () => cellNow()?.api);
  define('prompt', { value: prompt, writable: true });
  define('readline', { value: prompt, writable: true });
  define('$$defaultMimer$$', { value: defaultMimer });
  // IJavascript's older names.
  for (const kind of ['mime', 'html', 'svg', 'png', 'jpeg']) define(`$$${kind}$$`, { get: () => undefined, set: (data) => cellNow()?.api[kind](data) });
  define('$$async$$', { get: () => Boolean(cellNow()?.isAsync), set: (value) => cellNow()?.api.async(value) });
  settable('$$done$$', () => cellNow()?.api.done);

  const require = (id) => requireFrom(process.cwd())(id);
  require.resolve = Object.assign((...args) => requireFrom(process.cwd()).resolve(...args),
    { paths: (id) => requireFrom(process.cwd()).resolve.paths(id) });
  require.cache = Module._cache;
  require.extensions = Module._extensions;
  require.main = undefined;
  const module = { exports: {}, id: '.', children: [], loaded: false, get paths() { return requireFrom(process.cwd()).resolve.paths('x') ?? []; } };
  define('require', { value: require, writable: true });
  define('module', { value: module, writable: true });
  define('exports', { value: module.exports, writable: true });
  settable('__dirname', () => process.cwd());
  settable('__filename', () => path.join(process.cwd(), 'cell.js'));
}

function replaceStreams() {
  const streams = { stdout: new Output('stdout'), stderr: new Output('stderr') };
  for (const [name, stream] of Object.entries(streams)) {
    Object.defineProperty(process, name, { value: stream, writable: true, configurable: true, enumerable: true });
  }
  const empty = Readable.from([]);
  Object.defineProperty(process, 'stdin', { get: () => (store.getStore() ?? current)?.stdin ?? empty, configurable: true, enumerable: true });
  // Node's own console keeps what it printed for an inspector that may come; an interrupt brings one.
  globalThis.console = Object.assign(new Console(streams), { Console });
}

/** Timers of a cell that was interrupted do nothing when they are due. */
function guardTimers() {
  for (const name of ['setTimeout', 'setInterval', 'setImmediate']) {
    const original = timers[name];
    const clear = name === 'setImmediate' ? () => {} : clearInterval;
    const guarded = function (callback, ...rest) {
      const cell = store.getStore();
      if (!cell || typeof callback !== 'function') return original(callback, ...rest);
      const timer = original(function (...args) {
        if (cell.dead) return clear(timer);
        return callback.apply(this, args);
      }, ...rest);
      return timer;
    };
    Object.defineProperty(guarded, 'name', { value: name });
    for (const symbol of Object.getOwnPropertySymbols(original)) {
      Object.defineProperty(guarded, symbol, Object.getOwnPropertyDescriptor(original, symbol));
    }
    timers[name] = guarded;
    globalThis[name] = guarded;
  }
}

/** Lets the protocol thread know of child processes, and keeps their output in order with ours. */
function watchChildren() {
  const { spawn } = childProcess.ChildProcess.prototype;
  childProcess.ChildProcess.prototype.spawn = function (options) {
    goBy('child');
    const result = spawn.call(this, options);
    if (this.pid) {
      const { pid } = this;
      post({ type: 'child', pid, id: store.getStore()?.id ?? 0, detached: Boolean(options?.detached) });
      this.once('exit', () => post({ type: 'childGone', pid }));
    }
    return result;
  };
  for (const name of ['spawnSync', 'execSync', 'execFileSync']) {
    const original = childProcess[name];
    childProcess[name] = Object.defineProperty(function (...args) {
      goBy('child');
      return original.apply(this, args);
    }, 'name', { value: name });
  }
}

/**
 * Called by the protocol thread, through the inspector, in the middle of whatever this thread is doing: ends it.
 * The code that is stopped does not unwind Node's stack of asynchronous contexts, and Node aborts the process
 * when it finds that stack wrong; so it is cleared before and, as soon as V8 has stopped the code, after.
 */
function installStop() {
  let clearStack = () => {};
  const quiet = process.noDeprecation;
  process.noDeprecation = true;
  try {
    const binding = process.binding('async_wrap');
    clearStack = () => binding.clearAsyncIdStack();
  } catch { /* newer Nodes: the stack is only checked when asked for, see the flag in kernel.json */ }
  process.noDeprecation = quiet;
  let session = null;
  Object.defineProperty(process, Symbol.for('kernelgate.stop'), {
    value: (repairOnly) => {
      const cell = store.getStore();
      if (cell && cell !== current) cell.dead = true; // a timer of an older cell is what keeps us busy
      clearStack();
      if (repairOnly) return;
      if (!session) {
        session = new (require('inspector').Session)();
        session.connect();
      }
      session.post('Runtime.terminateExecution', clearStack);
    },
  });
}

function reportLate(kind) {
  return (error) => {
    const cell = store.getStore();
    if (cell?.dead) return;
    try {
      write('stderr', `${kind} ${util.inspect(error)}\n`);
    } catch (other) {
      write('stderr', `${kind} error that cannot be shown: ${other?.message}\n`);
    }
  };
}

async function boot(options) {
  ({ worker, flags, input: inputPort } = options);
  // Keeps neither the process nor the exit waiting by itself; the worker does.
  inputPort.unref();
  Object.defineProperty(Error, 'prepareStackTrace', { value: prepareStackTrace, writable: true, configurable: true, enumerable: false });
  replaceStreams();
  guardTimers();
  watchChildren();
  installStop();
  defineGlobals();
  Module.syncBuiltinESMExports();

  process.on('uncaughtException', reportLate('Uncaught'));
  process.on('unhandledRejection', reportLate('Uncaught (in promise)'));
  // Behind all listeners of 'exit', whose output counts too.
  const { reallyExit } = process;
  process.reallyExit = function (code) {
    ending = true;
    post({ type: 'exiting' });
    const deadline = Date.now() + 1000;
    for (let passed; (passed = Atomics.load(flags, BARRIER)) < ALL_SENT && Date.now() < deadline;) Atomics.wait(flags, BARRIER, passed, 100);
    reallyExit.call(process, code);
  };

  const handlers = {
    execute_request: begin,
    interrupt: interrupted,
    exit: ({ code }) => process.exit(code),
    input: ({ seq, value, error }) => {
      const question = questions.get(seq);
      questions.delete(seq);
      if (error) question?.reject(new InputError(error)); else question?.resolve(value);
    },
    listening: ({ signals }) => {
      // Only between two turns of the event loop; SIGTERM had better keep its default action then.
      if (!signals) process.on('SIGINT', () => post({ type: 'sigint' }));
    },
  };
  const queries = { complete_request: 'complete', inspect_request: 'inspect', is_complete_request: 'isComplete' };
  worker.on('message', (message) => {
    const query = queries[message.type];
    if (!query) { handlers[message.type](message); return; }
    let content;
    try {
      content = require('./introspect.js')[query](message.content, { declared, requireFrom, transpile });
    } catch (error) {
      content = { status: 'error', ...describe(error) };
    }
    post({ type: 'answered', id: message.id, content: stringify(content) });
  });
  if (options.transpiler) transpile = await options.transpiler();
  post({ type: 'ready' });
}

module.exports = { boot };
