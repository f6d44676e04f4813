'use strict';
/* MIME bundles of values, and IJavascript's `$$`. */
const util = require('util');

const DATA = 'application/vnd.kernelgate.data+json';
const MAX_TABLE_ROWS = 10_000;
const MAX_HTML_ROWS = 200;
const MAX_JSON_NODES = 5_000;
const MAX_JSON_CHARS = 128 * 1024;

const isPlain = (value) => {
  if (value === null || typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
};

/** A table's cell as a JSON scalar. */
function scalar(value) {
  switch (typeof value) {
    case 'string': case 'boolean': return value;
    case 'number': return Number.isFinite(value) ? value : null;
    case 'bigint': return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    case 'undefined': return null;
    case 'object':
      if (value === null) return null;
      if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
      try { return JSON.stringify(value) ?? null; } catch { return util.inspect(value); }
    default: return String(value);
  }
}

const escape = (value) => String(value).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

/** Column name to values for an array of records, else null. */
function columnsOf(value) {
  if (!Array.isArray(value) || value.length === 0 || !value.every(isPlain)) return null;
  const rows = value.slice(0, MAX_TABLE_ROWS);
  const names = [...new Set(rows.flatMap(Object.keys))];
  if (names.length === 0) return null;
  // Own keys only, and a map without prototype, so that a column may be called __proto__.
  const columns = Object.create(null);
  for (const name of names) columns[name] = rows.map((row) => scalar(Object.hasOwn(row, name) ? row[name] : undefined));
  return columns;
}

function tableHtml(columns, total) {
  const names = Object.keys(columns);
  const shown = Math.min(total, MAX_HTML_ROWS);
  const rows = [];
  for (let i = 0; i < shown; i++) {
    rows.push(`<tr><th>${i}</th>${names.map((name) => `<td>${escape(columns[name][i] ?? '')}</td>`).join('')}</tr>`);
  }
  const more = total > shown ? `<p>${shown} of ${total} rows</p>` : '';
  return `<table border="1" class="dataframe"><thead><tr><th></th>${names.map((name) => `<th>${escape(name)}</th>`).join('')}</tr></thead>`
    + `<tbody>${rows.join('')}</tbody></table>${more}`;
}

/** Whether JSON says all there is about a value, and briefly. */
function isJson(value) {
  let nodes = 0;
  const seen = new Set();
  const check = (item) => {
    if (++nodes > MAX_JSON_NODES) return false;
    if (item === null || typeof item === 'string' || typeof item === 'boolean') return true;
    if (typeof item === 'number') return Number.isFinite(item);
    if (item instanceof Date) return true;
    if (typeof item !== 'object' || !(Array.isArray(item) || isPlain(item)) || seen.has(item)) return false;
    seen.add(item);
    return Object.values(item).every(check);
  };
  return check(value);
}

const MAGIC = [
  ['image/png', [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ['image/jpeg', [0xff, 0xd8, 0xff]],
  ['application/pdf', [0x25, 0x50, 0x44, 0x46, 0x2d]],
];

const GEOJSON = new Set(['Feature', 'FeatureCollection', 'Point', 'MultiPoint', 'LineString', 'MultiLineString', 'Polygon', 'MultiPolygon', 'GeometryCollection']);

/** JSON-based types that an object of a well-known shape is. */
function wellKnown(value) {
  const schema = /vega\.github\.io\/schema\/(vega|vega-lite)\/v(\d+)/.exec(typeof value.$schema === 'string' ? value.$schema : '');
  if (schema) return `application/vnd.${schema[1] === 'vega' ? 'vega' : 'vegalite'}.v${schema[2]}+json`;
  if (GEOJSON.has(value.type) && (Array.isArray(value.features) || Array.isArray(value.coordinates)
    || Array.isArray(value.geometries) || 'geometry' in value)) return 'application/geo+json';
  return null;
}

/** base64 text for what users give as an image: text that already is, or bytes. */
const base64 = (data) => ArrayBuffer.isView(data) || data instanceof ArrayBuffer
  ? Buffer.from(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength).toString('base64') : data;

/** IJavascript's own hooks on values, in its order. */
const HOOKS = [['_toHtml', 'text/html'], ['_toSvg', 'image/svg+xml'], ['_toPng', 'image/png'], ['_toJpeg', 'image/jpeg']];

/** The MIME bundle of a value, as IJavascript's $$mimer$$ (which users may replace). */
function defaultMimer(value) {
  let bundle = {};
  if (value !== null && (typeof value === 'object' || typeof value === 'function')) {
    const custom = typeof value._toMime === 'function' ? value._toMime()
      : typeof value[Symbol.for('Jupyter.display')] === 'function' ? value[Symbol.for('Jupyter.display')]() : null;
    if (custom && typeof custom === 'object') bundle = { ...custom };
  }
  if (!('text/plain' in bundle)) bundle['text/plain'] = util.inspect(value, typeof value === 'string' ? { maxStringLength: Infinity } : {});
  if (value === null || typeof value !== 'object') return bundle;
  for (const [hook, type] of HOOKS) {
    if (!(type in bundle) && typeof value[hook] === 'function') bundle[type] = base64(value[hook]());
  }
  if (value instanceof Uint8Array) {
    const magic = MAGIC.find(([, bytes]) => bytes.every((byte, i) => value[i] === byte));
    if (magic) bundle[magic[0]] = base64(value);
  } else if (Array.isArray(value) || isPlain(value)) {
    const known = isPlain(value) ? wellKnown(value) : null;
    if (known) bundle[known] = value;
    const columns = columnsOf(value);
    if (columns) {
      bundle['text/html'] ??= tableHtml(columns, Math.min(value.length, MAX_TABLE_ROWS));
      bundle[DATA] = columns;
    }
    if (isJson(value)) bundle['application/json'] ??= value;
  }
  return bundle;
}

/** JSON text of a bundle; drops application/json when it is large. */
function bundleText(bundle) {
  const data = { ...bundle };
  if ('application/json' in data && JSON.stringify(data['application/json'])?.length > MAX_JSON_CHARS) delete data['application/json'];
  return JSON.stringify(data);
}

/** `$$.name(data)`: MIME type, and whether bytes become base64. */
const KINDS = {
  text: ['text/plain'], html: ['text/html'], svg: ['image/svg+xml'], markdown: ['text/markdown'], latex: ['text/latex'],
  json: ['application/json'], javascript: ['application/javascript'],
  png: ['image/png', true], jpeg: ['image/jpeg', true], pdf: ['application/pdf', true],
};

/**
 * IJavascript's `$$` for one execution. Unlike there, showing something is a display (any number of them, in
 * order) and not the result; in an asynchronous cell (`$$.async()`) it still ends the execution unless
 * `keepAlive` is true.
 *
 * @param {object} cell what engine.js gives: publish, finish, fail, hold, input, mimer, config
 */
function interfaceFor(cell) {
  const api = Object.create(null);
  const show = (bundle, displayId) => {
    const update = displayId !== undefined && cell.displays.has(displayId);
    if (displayId !== undefined) cell.displays.add(displayId);
    const transient = displayId === undefined ? '{}' : JSON.stringify({ display_id: String(displayId) });
    cell.publish(update ? 'update_display_data' : 'display_data', `{"data":${bundleText(bundle)},"metadata":{},"transient":${transient}}`);
  };
  /** Promises are shown when they resolve; until then the execution goes on. */
  const resolving = (act) => function (value, keepAlive) {
    if (util.types.isPromise(value)) {
      cell.hold(value.then((resolved) => act(resolved, keepAlive), (error) => cell.fail(error)));
      return;
    }
    act(value, keepAlive);
  };
  const displaying = (toBundle) => resolving((value, keepAlive) => {
    show(toBundle(value));
    if (cell.isAsync && !keepAlive) cell.finish();
  });

  api.config = cell.config;
  api.async = (value) => (cell.isAsync = value === undefined ? true : Boolean(value));
  api.done = (value) => cell.finish(value);
  api.sendResult = resolving((value, keepAlive) => {
    if (keepAlive) show(cell.mimer(value)); else cell.finish(value);
  });
  api.sendError = resolving((error) => cell.fail(error));
  api.mime = displaying((bundle) => Object.fromEntries(Object.entries(bundle).map(([type, data]) => [type, base64(data)])));
  for (const [name, [type, binary]] of Object.entries(KINDS)) {
    api[name] = displaying((data) => ({ [type]: binary ? base64(data) : data }));
  }
  api.clear = (options) => cell.publish('clear_output', JSON.stringify({ wait: Boolean(options?.wait) }));
  api.input = (options, callback) => {
    const { prompt = '', password = false } = typeof options === 'string' ? { prompt: options } : options ?? {};
    const answer = cell.input(String(prompt), Boolean(password));
    if (typeof callback !== 'function') return answer;
    cell.hold(answer.then((value) => callback(null, value), (error) => callback(error)));
  };
  api.display = (...ids) => {
    const display = {};
    for (const [name, [type, binary]] of Object.entries(KINDS)) {
      display[name] = (data) => show({ [type]: binary ? base64(data) : data }, ...ids);
    }
    display.mime = (bundle) => show(bundle, ...ids);
    display.close = () => {};
    return display;
  };
  return api;
}

module.exports = { defaultMimer, bundleText, interfaceFor };
