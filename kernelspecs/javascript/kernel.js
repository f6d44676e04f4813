'use strict';
/*
 * Theory of operation. One process, two threads.
 *
 * The main thread runs the user's code (engine.js) and nothing else, so that it is an ordinary Node program:
 * chdir, signals, native modules, process.exit and process.abort mean what they mean in Node, and the death of
 * the user's code is the death of the kernel. The other thread (protocol.js) owns the ZeroMQ sockets, the queue
 * of requests and the output. It stays responsive while the main thread is in an endless loop, which is how an
 * interrupt, a shutdown and a heartbeat get through.
 *
 * Descriptors 1 and 2 are two FIFOs that the protocol thread reads. Everything that writes to them (console,
 * process.stdout, fs.writeSync, native code, child processes) is one ordered stream of bytes per descriptor.
 */
const fs = require('fs');
const os = require('os');
const path = require('path');
const { execFileSync } = require('child_process');
const { randomBytes } = require('crypto');
const { Worker, MessageChannel } = require('worker_threads');

/** Makes descriptor `fd` the writing end of `fifo`; returns the descriptor of its reading end. */
function redirect(fd, fifo) {
  // The lowest free descriptor is the one that open() returns: this is dup2() for a single-threaded Node.
  // O_RDWR never blocks on a FIFO and never sees its end; only the reading end must be non-blocking, and the
  // two are separate open files, so that children inherit a blocking stdout.
  const reader = fs.openSync(fifo, fs.constants.O_RDWR | fs.constants.O_NONBLOCK);
  fs.closeSync(fd);
  if (fs.openSync(fifo, fs.constants.O_RDWR) !== fd) throw new Error(`cannot redirect descriptor ${fd}`);
  return reader;
}

/** The stderr we were started with, for the log of whoever started us; null where it cannot be opened again. */
function ownStderr() {
  try { return fs.openSync('/proc/self/fd/2', 'a'); } catch { return null; }
}

function captureOutput() {
  const stem = path.join(os.tmpdir(), `.kernel-${process.pid}-${randomBytes(6).toString('hex')}`);
  const fifos = [`${stem}-1`, `${stem}-2`];
  execFileSync('mkfifo', ['-m', '600', ...fifos], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    return fifos.map((fifo, index) => redirect(index + 1, fifo));
  } finally {
    for (const fifo of fifos) fs.rmSync(fifo, { force: true });
  }
}

/**
 * Runs the kernel.
 *
 * @param {object} language `name`, `mimetype`, `file_extension`, and optionally `transpiler()`: a promise of a
 *   function from source text and cell name to `{code, originalPosition(line, column)}` that has a method
 *   `beforeImport(specifier)`.
 */
function start(language) {
  // The last argument, for front ends and debuggers that put their own before it.
  const connection = JSON.parse(fs.readFileSync(process.argv[process.argv.length - 1], 'utf8'));
  fs.closeSync(0);
  fs.openSync('/dev/null', 'r');
  const log = ownStderr();
  const [stdout, stderr] = captureOutput();
  // Children made by fork() and Worker would inherit these flags, and the user sees them in process.argv.
  process.execArgv = [];
  process.argv = [process.argv[0]];

  const flags = new Int32Array(new SharedArrayBuffer(16));
  const input = new MessageChannel();
  const { transpiler, ...languageInfo } = language;
  const worker = new Worker(path.join(__dirname, 'protocol.js'), {
    workerData: { connection, flags, stdout, stderr, input: input.port1, language: languageInfo },
    transferList: [input.port1],
    // Not piped to process.stdout: Node's own would be made for that, and make descriptor 1 non-blocking.
    stdout: true,
    stderr: true,
  });
  // Half a kernel answers nothing: die, so that it is seen.
  const { reallyExit } = process; // engine.js replaces it by one that waits for the other thread
  const die = (error) => {
    if (log !== null) fs.writeSync(log, `kernel: ${error?.stack ?? error}\n`);
    reallyExit.call(process, 70);
  };
  worker.on('error', die);
  worker.on('exit', () => die('the protocol thread has ended'));
  require('./engine.js').boot({ worker, flags, input: input.port2, transpiler }).catch(die);
}

module.exports = { start };

if (require.main === module) {
  start({ name: 'javascript', mimetype: 'application/javascript', file_extension: '.js' });
}
