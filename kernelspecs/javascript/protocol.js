'use strict';
/*
 * The protocol thread: sockets, the queue of requests, output, interrupts. See kernel.js for the whole picture.
 *
 * The order of output. There are three ways from the main thread to here: the two FIFOs and the message port.
 * Each keeps its own order; between them order is kept by the main thread, which lets this thread catch up
 * (a "barrier") whenever it changes from one way to another. So each handler of a port message first empties
 * the FIFOs: what is in them is older.
 */
const crypto = require('crypto');
const fs = require('fs');
const net = require('net');
const { StringDecoder } = require('string_decoder');
const { parentPort, workerData } = require('worker_threads');
const zmq = require('zeromq');
const { ANY_INTERRUPT, INTERRUPTED, BARRIER, ALL_SENT, INPUT } = require('./shared.js');

// What this thread's libraries warn of is not the user's business, and would end up in the user's output.
process.removeAllListeners('warning');

const { connection, flags, language, input: inputPort } = workerData;
const PROTOCOL = '5.3';
const KiB = 1024;
const MiB = 1024 * KiB;

// ------------------------------------------------------------------------------------------------ messages

const DELIMITER = '<IDS|MSG>';
const session = crypto.randomUUID();
const hash = (connection.signature_scheme || 'hmac-sha256').replace(/^hmac-/, '');
let sent = 0;

function sign(frames) {
  if (!connection.key) return '';
  const hmac = crypto.createHmac(hash, connection.key);
  for (const frame of frames) hmac.update(frame);
  return hmac.digest('hex');
}

/** Frames of one message; `parent` and `content` are JSON text. */
function encode(idents, type, parent, content, metadata = '{}') {
  const header = JSON.stringify({
    msg_id: `${session}_${sent++}`, session, username: 'kernel', date: new Date().toISOString(), msg_type: type, version: PROTOCOL,
  });
  const body = [header, parent, metadata, content];
  return [...idents, DELIMITER, sign(body), ...body];
}

/** A received message, or null when it is malformed or not signed with our key. */
function decode(frames) {
  const at = frames.findIndex((frame) => frame.equals(Buffer.from(DELIMITER)));
  if (at < 0 || frames.length < at + 6) return null;
  const body = frames.slice(at + 2, at + 6);
  const expected = Buffer.from(sign(body));
  if (connection.key && !(frames[at + 1].length === expected.length && crypto.timingSafeEqual(frames[at + 1], expected))) return null;
  try {
    const [header, , metadata, content] = body.map((frame) => JSON.parse(frame.toString()));
    return { idents: frames.slice(0, at), header, headerText: body[0].toString(), metadata, content, type: header.msg_type };
  } catch {
    return null;
  }
}

// ------------------------------------------------------------------------------------------------- sockets

const address = (port) => connection.transport === 'ipc'
  ? `ipc://${connection.ip}-${port}` : `tcp://${connection.ip}:${port}`;

// A send never waits inside the library (sendTimeout 0): what cannot be sent is kept in our own queue.
// `handover`: a client that follows one that was killed has its name, and must not be ignored because the end of the other has not been noticed yet.
const shell = new zmq.Router({ handover: true, sendTimeout: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0, linger: 1000 });
const control = new zmq.Router({ handover: true, sendTimeout: 0, sendHighWaterMark: 0, linger: 1000 });
const stdin = new zmq.Router({ handover: true, sendTimeout: 0, sendHighWaterMark: 0, linger: 1000 });
const heartbeat = new zmq.Router({ sendTimeout: 0, linger: 0 });
// XPUB tells us of subscriptions, which is what iopub_welcome needs. noDrop: with a slow reader sending fails
// (EAGAIN) instead of losing messages.
const iopub = new zmq.XPublisher({ sendTimeout: 0, sendHighWaterMark: 200, noDrop: true, linger: 1000 });
iopub.verbosity = 'allSubs';

const send = (socket, frames) => socket.send(frames).catch(() => {}); // the peer went away

/*
 * Messages for iopub. Overflow: with so much waiting the FIFOs are not read and barriers not passed, so that the
 * code that prints waits for its reader; little enough that an interrupted execution is soon over. A subscriber that takes nothing for STUCK_MS is not waited for again until the queue is
 * empty: a front end that was suspended must not stop the kernel.
 */
const HELD_BYTES = 4 * MiB;
const HELD_MESSAGES = 250;
const STUCK_MS = 10_000;
const outbox = [];
let outboxBytes = 0;
let dropping = false;
let pumping = null;

const full = () => outboxBytes > HELD_BYTES || outbox.length > HELD_MESSAGES;

function publish(type, parent, content, topic = type) {
  flushStream();
  enqueue(type, parent, content, topic);
}

function enqueue(type, parent, content, topic) {
  const frames = encode([topic], type, parent, content);
  outbox.push(frames);
  outboxBytes += content.length;
  pumping ??= pump();
}

async function pump() {
  let stuckAt = 0;
  while (outbox.length) {
    try {
      await iopub.send(outbox[0]);
      stuckAt = 0;
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
      stuckAt ||= Date.now();
      if (Date.now() - stuckAt > STUCK_MS) iopub.noDrop = !(dropping = true);
      await new Promise((resolve) => setTimeout(resolve, 2));
      continue;
    }
    const frames = outbox.shift();
    outboxBytes -= frames[frames.length - 1].length;
    if (outboxBytes < HELD_BYTES / 2 && outbox.length < HELD_MESSAGES / 2) resumeReading();
  }
  if (dropping) iopub.noDrop = !(dropping = false);
  pumping = null;
  resumeReading();
}

async function* received(socket) {
  for (;;) {
    const message = decode(await socket.receive());
    if (message) yield message;
  }
}

// ------------------------------------------------------------------------------------------------- streams

/** Headers (JSON text) of executions, for output that comes late. The oldest are forgotten. */
const headers = new Map();
const REMEMBERED_EXECUTIONS = 1000;
let attributedTo = '{}';
const headerOf = (id) => headers.get(id) ?? attributedTo;

/*
 * Text that comes thick and fast is put together: a message costs its reader far more than a few bytes do. The
 * first text after a pause goes out at once.
 */
const GATHER_MS = 4;
const GATHER_CHARS = 64 * KiB;
let gathered = null;
let gatherTimer = null;
let flushedAt = 0;

function stream(parent, name, text) {
  if (!text) return;
  if (gathered && (gathered.parent !== parent || gathered.name !== name)) flushStream();
  if (gathered) gathered.text += text; else gathered = { parent, name, text };
  if (performance.now() - flushedAt >= GATHER_MS || gathered.text.length >= GATHER_CHARS) flushStream();
  else gatherTimer ??= setTimeout(flushStream, GATHER_MS);
}

function flushStream() {
  if (!gathered) return;
  const { parent, name, text } = gathered;
  gathered = null;
  clearTimeout(gatherTimer);
  gatherTimer = null;
  flushedAt = performance.now();
  enqueue('stream', parent, JSON.stringify({ name, text }), 'stream');
}

const chunk = Buffer.allocUnsafe(64 * KiB);
const readers = [['stdout', workerData.stdout], ['stderr', workerData.stderr]].map(([name, fd]) => {
  const decoder = new StringDecoder('utf8'); // a character may be split between two reads
  const socket = new net.Socket({ fd, readable: true, writable: false, onread: {
    buffer: Buffer.allocUnsafe(64 * KiB),
    callback(bytes, buffer) {
      stream(attributedTo, name, decoder.write(buffer.subarray(0, bytes)));
      if (full()) stopReading();
      return true;
    },
  } });
  socket.on('error', () => process.exit(71));
  return { name, fd, decoder, socket, paused: false };
});
for (const { socket } of readers) socket.resume();

let waiting = []; // barriers that wait for the outbox to shrink

function stopReading() {
  for (const reader of readers) if (!reader.paused) { reader.paused = true; reader.socket.pause(); }
}

function resumeReading() {
  for (const reader of readers) if (reader.paused) { reader.paused = false; reader.socket.resume(); }
  const passed = waiting;
  waiting = [];
  for (const pass of passed) pass();
}

/** Publishes what is in the FIFOs now. */
function drain() {
  for (const { name, fd, decoder } of readers) {
    for (;;) {
      let bytes;
      try {
        bytes = fs.readSync(fd, chunk, 0, chunk.length, null);
      } catch (error) {
        if (error.code === 'EAGAIN') break;
        throw error;
      }
      if (bytes === 0) break;
      stream(attributedTo, name, decoder.write(chunk.subarray(0, bytes)));
      if (bytes < chunk.length) break; // a FIFO gives all it has
    }
  }
}

function endOfOutput() {
  drain();
  for (const { name, decoder } of readers) stream(attributedTo, name, decoder.end());
}

// ------------------------------------------------------------------------------------------------ requests

let executionCount = 0;
let executions = 0;
let ready = false;
let running = null; // the request the main thread works on
const queue = [];

const status = (request, state) => publish('status', request.headerText, JSON.stringify({ execution_state: state }));
const reply = (request, content, socket = shell, type = request.type.replace('_request', '_reply')) =>
  send(socket, encode(request.idents, type, request.headerText, typeof content === 'string' ? content : JSON.stringify(content)));

function answer(request, content, socket) {
  status(request, 'busy');
  reply(request, content, socket);
  status(request, 'idle');
}

const kernelInfo = {
  status: 'ok',
  protocol_version: PROTOCOL,
  implementation: 'ijavascript',
  implementation_version: require('ijavascript/package.json').version,
  language_info: { ...language, version: process.versions.node },
  banner: `${language.name} on Node.js ${process.version} (IJavascript, kernelgate engine)`,
  help_links: [{ text: 'Node.js', url: 'https://nodejs.org/api/' }],
};

const QUEUED = new Set(['execute_request', 'complete_request', 'inspect_request', 'is_complete_request']);

function receive(request, socket) {
  switch (request.type) {
    // Answered here, so also while code is running.
    case 'kernel_info_request': return answer(request, kernelInfo, socket);
    case 'comm_info_request': return answer(request, { status: 'ok', comms: {} }, socket);
    case 'history_request': return answer(request, { status: 'ok', history: [] }, socket);
    case 'shutdown_request': return shutdown(request, socket);
    case 'interrupt_request':
      answer(request, { status: 'ok' }, socket);
      return interrupt();
  }
  if (QUEUED.has(request.type)) {
    queue.push(request);
    next();
  } else {
    status(request, 'busy');
    status(request, 'idle');
  }
}

function next() {
  if (running || !ready || !queue.length) return;
  const request = running = queue.shift();
  const { content } = request;
  status(request, 'busy');
  request.id = ++executions;
  if (request.type !== 'execute_request') {
    parentPort.postMessage({ type: request.type, id: request.id, content });
    return;
  }
  drain(); // belongs to the execution before
  if (!content.silent) executionCount++;
  headers.set(request.id, request.headerText);
  if (headers.size > REMEMBERED_EXECUTIONS) headers.delete(headers.keys().next().value);
  attributedTo = request.headerText;
  if (!content.silent) publish('execute_input', request.headerText, JSON.stringify({ code: content.code, execution_count: executionCount }));
  parentPort.postMessage({
    type: 'execute_request', id: request.id, code: content.code, count: content.silent ? 0 : executionCount,
    env: request.metadata?.kernelgate?.env ?? null, expressions: content.user_expressions ?? {},
  });
}

function finish() {
  status(running, 'idle');
  running = null;
  next();
}

function executed({ result, error, expressions }) {
  const request = running;
  endOfOutput();
  pendingInput = null;
  if (error) {
    if (!request.content.silent) publish('error', request.headerText, JSON.stringify(error));
    reply(request, { status: 'error', execution_count: executionCount, ...error });
    if (request.content.stop_on_error !== false) {
      for (const other of queue.filter((r) => r.type === 'execute_request')) {
        queue.splice(queue.indexOf(other), 1);
        answer(other, { status: 'aborted' });
      }
    }
  } else {
    if (result && !request.content.silent) {
      publish('execute_result', request.headerText, `{"execution_count":${executionCount},"metadata":{},"data":${result}}`);
    }
    reply(request, `{"status":"ok","execution_count":${executionCount},"payload":[],"user_expressions":${expressions}}`);
  }
  finish();
}

// --------------------------------------------------------------------------------------------------- stdin

let pendingInput = null;

function requestInput({ id, prompt, password, sync, seq }) {
  const deny = (message) => provide({ sync, seq, error: message });
  if (!running || running.id !== id) return deny('the execution that asks for input has ended');
  if (!running.content.allow_stdin) return deny('this execution does not allow input (allow_stdin is false)');
  pendingInput = { sync, seq };
  send(stdin, encode(running.idents, 'input_request', running.headerText, JSON.stringify({ prompt, password })));
}

function provide({ sync, seq, value, error }) {
  if (!sync) return parentPort.postMessage({ type: 'input', seq, value, error });
  inputPort.postMessage({ value, error });
  Atomics.add(flags, INPUT, 1);
  Atomics.notify(flags, INPUT);
}

// ----------------------------------------------------------------------------------------------- processes

/** Child processes of the main thread's child_process: pid to {id of the execution, detached}. */
const children = new Map();

/** pid to pids of its children, for all processes we can see. */
function processTree() {
  const tree = new Map();
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    let stat;
    try { stat = fs.readFileSync(`/proc/${name}/stat`, 'latin1'); } catch { continue; }
    const parent = Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]);
    if (!tree.has(parent)) tree.set(parent, []);
    tree.get(parent).push(Number(name));
  }
  return tree;
}

/** Signals the processes and everything below them, children first. */
function killTrees(pids, signal, tree = processTree()) {
  for (const pid of pids) {
    killTrees(tree.get(pid) ?? [], signal, tree);
    try { process.kill(pid, signal); } catch { /* already gone */ }
  }
}

const directChildren = () => processTree().get(process.pid) ?? [];

// ----------------------------------------------------------------------------------------------- interrupt

let interrupting = null;
let pings = 0;
let ponged = 0;

/*
 * Ends what the main thread does. A message is enough while its event loop turns. Otherwise V8 is told through
 * the inspector, at first together with a repair that must run inside the interrupted thread (engine.js, stop);
 * V8 forgets a request that ends up in a native callback, so later attempts use the debugger's way. A thread
 * that waits for a child (execSync) comes back when the child is gone.
 */
function interrupt() {
  if (interrupting) return;
  const id = running?.type === 'execute_request' ? running.id : 0;
  if (id) {
    Atomics.store(flags, INTERRUPTED, id);
    Atomics.store(flags, ANY_INTERRUPT, 1);
    const own = [...children].filter(([, child]) => child.id === id && !child.detached).map(([pid]) => pid);
    if (own.length) {
      killTrees(own, 'SIGTERM');
      setTimeout(() => killTrees(own.filter((pid) => children.get(pid)?.id === id), 'SIGKILL'), 300).unref();
    }
  }
  const ping = ++pings;
  const stopped = () => ponged >= ping && (!id || running?.id !== id);
  interrupting = { attempt: 0, inspector: null };
  resumeReading(); // the main thread may be waiting for room in a FIFO
  const again = () => {
    if (stopped()) {
      interrupting.inspector?.disconnect();
      interrupting = null;
      return;
    }
    if (interrupting.attempt > 0) {
      const known = children;
      killTrees(directChildren().filter((pid) => !known.has(pid)), interrupting.attempt > 5 ? 'SIGKILL' : 'SIGTERM');
      stopMainThread(interrupting);
    }
    parentPort.postMessage({ type: 'interrupt', id, ping });
    interrupting.attempt++;
    setTimeout(again, interrupting.attempt === 1 ? 25 : 50);
  };
  again();
}

const STOP = "process[Symbol.for('kernelgate.stop')]()";

function stopMainThread(state) {
  if (!state.inspector) {
    const { Session } = require('inspector');
    state.inspector = new Session();
    state.inspector.connectToMainThread();
  }
  const { inspector } = state;
  if (state.attempt < 4) {
    inspector.post('Runtime.evaluate', { expression: STOP, silent: true }, () => {});
    return;
  }
  if (state.attempt === 4) {
    inspector.post('Debugger.enable', () => {});
    inspector.on('Debugger.paused', () => {
      inspector.post('Runtime.evaluate', { expression: `${STOP.slice(0, -1)}true)`, silent: true }, () => {});
      inspector.post('Debugger.resume', { terminateOnResume: true }, () => {});
    });
  }
  inspector.post('Debugger.pause', () => {});
}

// -------------------------------------------------------------------------------------------------- ending

let ending = false;

/** Empties the queue of output, as far as that is possible in the time. */
async function flush(ms) {
  endOfOutput();
  flushStream();
  await Promise.race([pumping, new Promise((resolve) => setTimeout(resolve, ms))]);
}

async function end(exitCode) {
  if (ending) return;
  ending = true;
  killTrees(directChildren(), 'SIGTERM');
  await flush(100);
  // By its own code the process runs the user's exit handlers; a busy one does not get there.
  parentPort.postMessage({ type: 'exit', code: exitCode });
  setTimeout(() => {
    killTrees(directChildren(), 'SIGKILL');
    process.kill(process.pid, 'SIGKILL');
  }, 300);
}

function shutdown(request, socket) {
  answer(request, { status: 'ok', restart: Boolean(request.content.restart) }, socket);
  end(0);
}

/** The main thread is in process.exit() and waits. */
async function exiting() {
  ending = true;
  killTrees(directChildren(), 'SIGTERM');
  await flush(400);
  // Hands what is left to the I/O thread; and an addon with an open receive() aborts a process that exits.
  for (const socket of [iopub, shell, control, stdin, heartbeat]) socket.close();
  setTimeout(() => {
    killTrees(directChildren(), 'SIGKILL');
    pass(ALL_SENT);
  }, 10);
}

function watchSignals() {
  // Node delivers signals to the main thread only, which may be busy. libuv delivers them to any loop that asks.
  try {
    const quiet = process.noDeprecation;
    process.noDeprecation = true;
    const { Signal } = process.binding('signal_wrap');
    process.noDeprecation = quiet;
    const { SIGINT, SIGTERM } = require('os').constants.signals;
    for (const [number, act] of [[SIGINT, interrupt], [SIGTERM, () => end(143)]]) {
      const signal = new Signal();
      signal.onsignal = act;
      signal.start(number);
    }
    return true;
  } catch {
    return false; // not in this version of Node: engine.js listens
  }
}

// ---------------------------------------------------------------------------------------------------- main

function pass(barrier) {
  Atomics.store(flags, BARRIER, barrier);
  Atomics.notify(flags, BARRIER);
}

parentPort.on('message', (message) => {
  switch (message.type) {
    case 'ready':
      ready = true;
      next();
      break;
    case 'barrier':
      drain();
      if (full() && !interrupting) waiting.push(() => pass(message.number));
      else pass(message.number);
      break;
    case 'executed':
      if (running?.id === message.id) executed(message);
      break;
    case 'answered':
      if (running?.id === message.id) {
        reply(running, message.content);
        finish();
      }
      break;
    case 'publish':
      drain();
      publish(message.name, headerOf(message.id), message.content);
      break;
    case 'stream':
      drain();
      stream(headerOf(message.id), message.name, message.text);
      break;
    case 'input': drain(); requestInput(message); break;
    case 'child': children.set(message.pid, message); break;
    case 'childGone': children.delete(message.pid); break;
    case 'pong': ponged = message.ping; break;
    case 'sigint': interrupt(); break;
    case 'exiting': exiting(); break;
  }
});

async function main() {
  await Promise.all([
    shell.bind(address(connection.shell_port)),
    control.bind(address(connection.control_port)),
    stdin.bind(address(connection.stdin_port)),
    heartbeat.bind(address(connection.hb_port)),
    iopub.bind(address(connection.iopub_port)),
  ]);
  parentPort.postMessage({ type: 'listening', signals: watchSignals() });
  const loops = [
    async () => { for (;;) send(heartbeat, await heartbeat.receive()); },
    async () => { for await (const request of received(shell)) receive(request, shell); },
    async () => { for await (const request of received(control)) receive(request, control); },
    async () => {
      for await (const { type, content } of received(stdin)) {
        if (type !== 'input_reply' || !pendingInput) continue;
        const pending = pendingInput;
        pendingInput = null;
        provide({ ...pending, value: String(content.value ?? '') });
      }
    },
    async () => {
      for (;;) {
        const [subscription] = await iopub.receive();
        if (subscription[0] !== 1) continue;
        const topic = subscription.subarray(1).toString();
        publish('iopub_welcome', '{}', JSON.stringify({ subscription: topic }), topic);
      }
    },
  ];
  // A socket that was closed on purpose ends its loop.
  for (const loop of loops) loop().catch((error) => { if (!ending && error.code !== 'EAGAIN') throw error; });
}

main();
