// What JupyterLab's own library makes of a kernelgate: every case in turn against the server whose URL and token are in the environment. One line of JSON for each case,
// {"case", "ok", "error"?}. Where a case needs the server killed and started again, the line is {"ask": "restart the server"}, and an answer on standard input is waited for.
'use strict';

const assert = require('node:assert/strict');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const { KernelManager, KernelSpecManager, ServerConnection, SessionManager } = require('@jupyterlab/services');
const WebSocket = require('ws');

// The sockets that the library opened, so that they can be broken under it.
const sockets = [];
class Kept extends WebSocket {
  constructor(...given) {
    super(...given);
    sockets.push(this);
  }
}

// After a connection that was refused the library waits 10 to 30 s before it asks for the kernel again. Here it does not.
const { setTimeout: later } = globalThis;
globalThis.setTimeout = (work, delay, ...given) => later(work, work.name === 'getKernelModel' ? 200 : delay, ...given);

const baseUrl = process.env.KERNELGATE_URL;
const serverSettings = ServerConnection.makeSettings({
  baseUrl,
  wsUrl: baseUrl.replace('http', 'ws'),
  token: process.env.KERNELGATE_TOKEN,
  appendToken: true,
  WebSocket: Kept
});
const PYTHON = { name: 'python3' };

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
function say(what) {
  process.stdout.write(JSON.stringify(what) + '\n');
}
async function ask(what) {
  say({ ask: what });
  await answers.next();
}

/** Resolves with what `signal` emits when `matches` is true of it. */
function emitted(signal, matches) {
  return new Promise(resolve => {
    const slot = (_, value) => {
      if (matches(value)) {
        signal.disconnect(slot);
        resolve(value);
      }
    };
    signal.connect(slot);
  });
}

/** Runs code: {reply, messages}, the latter as [type, content] without statuses. */
function start(kernel, code, more = {}) {
  const future = kernel.requestExecute({ code, ...more });
  const messages = [];
  let first;
  const begun = new Promise(resolve => { first = resolve; });
  future.onIOPub = message => {
    const type = message.header.msg_type;
    if (type === 'stream') first();
    if (type !== 'status' && type !== 'execute_input') messages.push([type, message.content]);
  };
  return { future, messages, begun, done: future.done.then(reply => ({ reply: reply.content, messages })) };
}
const run = (kernel, code, more) => start(kernel, code, more).done;
const printed = messages => messages.filter(([type]) => type === 'stream').map(([, content]) => content.text).join('');
const result = messages => messages.filter(([type]) => type === 'execute_result').map(([, content]) => content.data['text/plain']).join('');

/** A kernel and its connection for the time of `use`. */
async function withKernel(use, options = PYTHON) {
  const manager = new KernelManager({ serverSettings, standby: 'never' });
  const kernel = await manager.startNew(options);
  try {
    return await use(kernel, manager);
  } finally {
    if (!kernel.isDisposed) await kernel.shutdown().catch(() => undefined);
    manager.dispose();
  }
}

const NUMBERS = Array.from({ length: 150 }, (_, number) => number);
/** What was printed, each number where it came first: what was on its way when a connection broke may come twice. */
const numbers = messages => [...new Set(printed(messages).trim().split('\n').map(Number))];
const SLOWLY = 'import time\nfor number in range(150):\n    print(number, flush=True)\n    time.sleep(0.01)\nnumber';

const cases = {
  async specs() {
    const manager = new KernelSpecManager({ serverSettings, standby: 'never' });
    await manager.ready;
    const { specs } = manager;
    assert.equal(specs.default, 'python3');
    for (const name of ['python3', 'javascript']) {
      const { resources, display_name } = specs.kernelspecs[name];
      assert.ok(display_name);
      const logo = await ServerConnection.makeRequest(baseUrl + resources['logo-64x64'], {}, serverSettings);
      assert.equal(logo.headers.get('content-type'), 'image/png');
    }
    manager.dispose();
  },

  async sessions() {
    const kernelManager = new KernelManager({ serverSettings, standby: 'never' });
    const manager = new SessionManager({ kernelManager, serverSettings, standby: 'never' });
    const session = await manager.startNew({ path: 'a/b.ipynb', name: 'b', type: 'notebook', kernel: PYTHON });
    assert.equal((await session.kernel.info).language_info.name, 'python');
    assert.equal(result((await run(session.kernel, '6 * 7')).messages), '42');
    await manager.refreshRunning();
    assert.ok(Array.from(manager.running()).some(model => model.id === session.id && model.kernel.id === session.kernel.id));
    await session.setPath('a/c.ipynb');
    await session.setName('c');
    assert.equal((await manager.findByPath('a/c.ipynb')).id, session.id);
    const old = session.kernel.id;
    await session.changeKernel({ name: 'javascript' });
    assert.notEqual(session.kernel.id, old);
    assert.equal(result((await run(session.kernel, '6 * 7')).messages), '42');
    await session.shutdown();
    await manager.refreshRunning();
    assert.equal(await manager.findByPath('a/c.ipynb'), undefined);
    manager.dispose();
    kernelManager.dispose();
  },

  async outputs(kernel) {
    const { reply, messages } = await run(
      kernel,
      'import sys\nfrom IPython.display import HTML, display\n' +
        'shown = display(HTML("<b>one</b>"), display_id=True)\nprint("out")\nprint("err", file=sys.stderr)\nshown.update(HTML("<b>two</b>"))\n[1, 2]'
    );
    assert.equal(reply.status, 'ok');
    assert.deepEqual(
      messages.map(([type, content]) => [type, content.text ?? content.data['text/html'] ?? content.data['text/plain']]),
      [['display_data', '<b>one</b>'], ['stream', 'out\n'], ['stream', 'err\n'], ['update_display_data', '<b>two</b>'], ['execute_result', '[1, 2]']]
    );
    const failed = await run(kernel, '1/0');
    assert.equal(failed.reply.ename, 'ZeroDivisionError');
    assert.equal(failed.messages.at(-1)[0], 'error');
    const many = await run(kernel, 'for number in range(3000): print(number, flush=True)');
    assert.equal(printed(many.messages), Array.from({ length: 3000 }, (_, number) => `${number}\n`).join(''));
  },

  async requests(kernel) {
    await run(kernel, 'variable_of_mine = 1');
    const completed = await kernel.requestComplete({ code: 'variable_of_m', cursor_pos: 13 });
    assert.deepEqual(completed.content.matches, ['variable_of_mine']);
    const inspected = await kernel.requestInspect({ code: 'len', cursor_pos: 3, detail_level: 0 });
    assert.ok(inspected.content.found);
    assert.equal((await kernel.requestIsComplete({ code: 'for a in b:' })).content.status, 'incomplete');
    const history = await kernel.requestHistory({ hist_access_type: 'range', output: false, raw: true, session: 0, start: 1, stop: 1000 });
    assert.equal(history.content.history.at(-1)[2], 'variable_of_mine = 1');
    const asked = start(kernel, 'input("who? ")', { allow_stdin: true });
    asked.future.onStdin = message => {
      assert.equal(message.content.prompt, 'who? ');
      asked.future.sendInputReply({ status: 'ok', value: 'me' }, message.header);
    };
    assert.equal(result((await asked.done).messages), "'me'");
  },

  async comms(kernel) {
    kernel.handleComms = true;
    const opened = new Promise(resolve => kernel.registerCommTarget('page', (comm, message) => resolve({ comm, message })));
    await run(
      kernel,
      'from comm import create_comm\nmine = create_comm(target_name="page", data={"value": 3}, buffers=[b"\\x00\\xff"])\nheard = []\n' +
        'def on(message):\n    heard.append((message["content"]["data"], [bytes(buffer) for buffer in message["buffers"]]))\n' +
        '    mine.send({"got": len(heard)}, buffers=[b"back"])\nmine.on_msg(on)'
    );
    const { comm, message } = await opened;
    assert.deepEqual(message.content.data, { value: 3 });
    assert.deepEqual(Buffer.from(message.buffers[0].buffer ?? message.buffers[0], message.buffers[0].byteOffset, message.buffers[0].byteLength), Buffer.from([0, 255]));
    const answered = new Promise(resolve => { comm.onMsg = resolve; });
    await comm.send({ value: 7 }, undefined, [new Uint8Array([1, 2, 3]).buffer]).done;
    const answer = await answered;
    assert.deepEqual(answer.content.data, { got: 1 });
    assert.equal(Buffer.from(answer.buffers[0].buffer, answer.buffers[0].byteOffset, answer.buffers[0].byteLength).toString(), 'back');
    assert.equal(result((await run(kernel, 'heard')).messages), "[({'value': 7}, [b'\\x01\\x02\\x03'])]");
    assert.deepEqual(Object.keys((await kernel.requestCommInfo({ target_name: 'page' })).content.comms), [comm.commId]);
    const closed = new Promise(resolve => { comm.onClose = resolve; });
    await run(kernel, 'mine.close()');
    await closed;
  },

  async interrupt(kernel) {
    const asked = start(kernel, 'kept = 1\nprint("begun", flush=True)\nimport time\ntime.sleep(60)');
    await asked.begun;
    await kernel.interrupt();
    assert.equal((await asked.done).reply.ename, 'KeyboardInterrupt');
    assert.equal(result((await run(kernel, 'kept')).messages), '1');
  },

  async restart() {
    await withKernel(async kernel => {
      await run(kernel, 'kept = 1');
      const { id } = kernel;
      await kernel.restart();
      assert.equal(kernel.id, id);
      assert.equal((await run(kernel, 'kept')).reply.ename, 'NameError');
      // A kernel that dies: its cell is answered, the library hears of the restart, and goes on.
      const again = emitted(kernel.statusChanged, status => status === 'autorestarting' || status === 'restarting');
      const died = run(kernel, 'import os\nos._exit(1)').catch(error => error);
      await again;
      await died;
      // It connects again after that, and drops what is asked for meanwhile.
      while (kernel.status !== 'idle' || kernel.connectionStatus !== 'connected') await sleep(20);
      assert.equal(result((await run(kernel, '6 * 7')).messages), '42');
    });
  },

  async 'two clients'(kernel, manager) {
    const other = manager.connectTo({ model: kernel.model });
    await other.info;
    const seen = emitted(other.iopubMessage, message => message.header.msg_type === 'stream' && message.content.text === 'for both\n');
    await run(kernel, 'shared = [1]\nprint("for both")');
    await seen;
    assert.equal(result((await run(other, 'shared')).messages), '[1]');
    other.dispose();
  },

  async 'a connection that breaks'(kernel) {
    const asked = start(kernel, SLOWLY);
    await asked.begun;
    const lost = emitted(kernel.connectionStatusChanged, status => status === 'connecting');
    sockets.findLast(socket => socket.url.includes(kernel.clientId) && socket.readyState === WebSocket.OPEN).terminate();
    await lost;
    const { reply, messages } = await asked.done;
    assert.equal(reply.status, 'ok');
    assert.deepEqual(numbers(messages), NUMBERS);
    assert.equal(kernel.connectionStatus, 'connected');
  },

  async 'a gateway that is killed'(kernel) {
    await run(kernel, 'kept = 41');
    const asked = start(kernel, SLOWLY);
    await asked.begun;
    await ask('restart the server');
    const { reply, messages } = await asked.done;
    assert.equal(reply.status, 'ok');
    assert.deepEqual(numbers(messages), NUMBERS);
    assert.equal(result((await run(kernel, 'kept + 1')).messages), '42');
  },

  async shutdown() {
    await withKernel(async (kernel, manager) => {
      const other = manager.connectTo({ model: kernel.model });
      await other.info;
      const dead = emitted(other.statusChanged, status => status === 'dead');
      await kernel.shutdown();
      await dead;
      await manager.refreshRunning();
      assert.equal(await manager.findById(kernel.id), undefined);
    });
  }
};

async function main() {
  // Its log is for people; what goes wrong is said by the case.
  for (const level of ['log', 'info', 'debug', 'warn', 'error']) console[level] = (...words) => process.stderr.write(words.join(' ') + '\n');
  await withKernel(async (kernel, manager) => {
    for (const [name, check] of Object.entries(cases)) {
      try {
        const begun = performance.now();
        await Promise.race([check(kernel, manager), sleep(40_000, undefined, { ref: false }).then(() => assert.fail('it took more than 40 s'))]);
        say({ case: name, ok: true, ms: Math.round(performance.now() - begun) });
      } catch (error) {
        say({ case: name, ok: false, error: error.stack });
      }
    }
  });
  process.exit(0);
}

if (process.argv.includes('--list')) say(Object.keys(cases));
else main();
