'use strict';
/*
 * Turns a cell into a script that V8 can run in the global scope, keeping what was said:
 *
 *  - Top-level names (var, let, const, class, function, import) become script-scoped `let` bindings that are
 *    declared once, by the engine, and assigned by the cell. So any of them can be declared again in any later
 *    cell, and `const crypto = ...` does not overwrite the global that Node's own modules use.
 *  - A cell with top-level await becomes an async function; the names are outside, so they stay.
 *  - The value of the last expression is handed to K.value().
 *  - `await x` asks before and after whether its execution was interrupted, and if so waits for ever: so an
 *    interrupted loop of awaits is really gone. The operand itself is awaited as it stands, so the order of
 *    microtasks is Node's. Callbacks given to then(), catch() and finally() ask too.
 *  - Assignments to names declared const throw, as far as that can be told from the text.
 *
 * Positions in the result are mapped back by Rewritten.originalOffset.
 */
const acorn = require('acorn');

/** The engine's object in the global scope; a name nobody chooses. */
const K = '$$kernelgate$$';

const OPTIONS = {
  ecmaVersion: 'latest',
  sourceType: 'script',
  allowAwaitOutsideFunction: true,
  allowImportExportEverywhere: true,
  allowHashBang: true,
  preserveParens: true,
};

function parse(code) {
  return acorn.parse(code, OPTIONS);
}

const isFunction = (node) => /^(FunctionDeclaration|FunctionExpression|ArrowFunctionExpression)$/.test(node.type);

/** Names bound by a pattern. */
function bound(pattern, names = []) {
  if (!pattern) return names;
  switch (pattern.type) {
    case 'Identifier': names.push(pattern.name); break;
    case 'ObjectPattern': for (const p of pattern.properties) bound(p.value || p.argument, names); break;
    case 'ArrayPattern': for (const p of pattern.elements) bound(p, names); break;
    case 'AssignmentPattern': bound(pattern.left, names); break;
    case 'RestElement': bound(pattern.argument, names); break;
  }
  return names;
}

function* childNodes(node) {
  for (const key in node) {
    const value = node[key];
    if (Array.isArray(value)) {
      for (const item of value) if (item && typeof item.type === 'string') yield item;
    } else if (value && typeof value.type === 'string') yield value;
  }
}

/** The text made from the source: copied pieces and inserted ones. */
class Rewritten {
  constructor(source) {
    this.source = source;
    this.edits = [];
    this.moved = [];
    this.group = null; // the moved piece that edits being made belong to
    this.code = '';
    this.pieces = []; // [offset in code, offset in source, length], ascending in code
  }

  replace(start, end, text) { this.edits.push({ start, end, text, group: this.group }); }
  insert(at, text) { this.replace(at, at, text); }
  /** Puts the piece of source, with the edits inside it, at the top of the cell. */
  hoist(start, end, edit) {
    this.group = { start, end };
    this.moved.push(this.group);
    edit();
    this.group = null;
  }

  render(prologue, epilogue) {
    // Stable: at one offset the edits keep the order in which the walk met them, outer before inner.
    this.edits.sort((a, b) => a.start - b.start);
    this.code = prologue;
    for (const piece of this.moved) { this.#copy(piece.start, piece.end, piece); this.code += '\n'; }
    this.#copy(0, this.source.length, null);
    this.end = this.code.length;
    this.code += epilogue;
    return this;
  }

  #copy(from, to, group) {
    let at = from;
    const upTo = (end) => {
      if (end > at) {
        this.pieces.push([this.code.length, at, end - at]);
        this.code += this.source.slice(at, end);
        at = end;
      }
    };
    const stops = this.edits.filter((e) => e.group === group);
    // Where a moved piece was there is a semicolon, so that the lines around it do not run together.
    if (!group) for (const m of this.moved) stops.push({ start: m.start, end: m.end, text: ';' });
    stops.sort((a, b) => a.start - b.start);
    for (const edit of stops) {
      upTo(edit.start);
      this.code += edit.text;
      at = Math.max(at, edit.end);
    }
    upTo(to);
  }

  originalOffset(offset) {
    let low = 0;
    let high = this.pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.pieces[middle][0] <= offset) low = middle; else high = middle - 1;
    }
    const piece = this.pieces[low];
    // What was inserted stands where the piece before it ends.
    return piece ? piece[1] + Math.max(0, Math.min(piece[2], offset - piece[0])) : 0;
  }

  /** Line and column (from 1) in the source for those in the rewritten code; null for what only the latter has at its end. */
  originalPosition(line, column) {
    let start = 0;
    for (let i = 1; i < line; i++) {
      const next = this.code.indexOf('\n', start);
      if (next < 0) break;
      start = next + 1;
    }
    if (this.end < this.code.length && start + column - 1 > this.end) return null;
    const before = this.source.slice(0, this.originalOffset(start + column - 1)).split('\n');
    return { line: before.length, column: before[before.length - 1].length + 1 };
  }
}

/**
 * Rewrites one cell.
 *
 * @param {string} source
 * @param {Set<string>} constants names that earlier cells declared const
 * @returns {{text: Rewritten, isAsync: boolean, names: string[], constants: string[]}}
 *   `names`: all top-level names; `constants`: those of them that must not be assigned.
 * @throws {SyntaxError} acorn's, with `pos`
 */
function rewrite(source, constants) {
  const tree = parse(source);
  const text = new Rewritten(source);
  const names = new Set();
  const ownConstants = new Set();
  const inner = new Set(); // names bound anywhere below the top level
  const assignments = [];
  const imports = [];
  let isAsync = false;
  let strict = false;

  if (source.startsWith('#!')) text.insert(0, '//');

  const keyword = (node) => {
    // From the keyword to the first name: also drops the line break that may follow it, and comments.
    const first = node.declarations[0];
    return [node.start, first.start];
  };

  /** var, let or const of the top level as assignments. */
  function assignInstead(node) {
    const patterns = node.declarations.some((d) => d.id.type !== 'Identifier');
    const [start, end] = keyword(node);
    // `void (` because an object pattern cannot start a statement, and a bare parenthesis would continue the
    // line before; the values are not wanted.
    text.replace(start, end, patterns ? 'void (' : '');
    for (const declarator of node.declarations) {
      // TypeScript's enum is `var E = function (E) {...}(E || {})`: not to be merged with one of an earlier cell.
      const isEnum = declarator.init?.type === 'CallExpression' && declarator.init.callee.type === 'FunctionExpression'
        && declarator.init.callee.params[0]?.name === declarator.id.name && declarator.init.arguments[0]?.type === 'LogicalExpression';
      if (isEnum && !names.has(declarator.id.name)) text.insert(declarator.start, `${declarator.id.name} = void 0, `);
      for (const name of bound(declarator.id)) names.add(name);
      if (node.kind === 'const') for (const name of bound(declarator.id)) ownConstants.add(name);
      if (declarator.init) walk(declarator.init, declarator, 0);
      else if (node.kind === 'let') text.insert(declarator.end, ' = void 0');
      if (declarator.id.type !== 'Identifier') walk(declarator.id, declarator, 0);
    }
    const last = node.declarations[node.declarations.length - 1].end;
    if (patterns) text.insert(last, ')');
    if (source[node.end - 1] !== ';') text.insert(node.end, ';');
  }

  function walk(node, parent, depth) {
    switch (node.type) {
      case 'VariableDeclaration':
        if (depth === 0 && node.kind === 'var') {
          // A `var` in a block or a loop of the top level is a top-level name too.
          if (/^For(In|Of)?Statement$/.test(parent.type) && parent.body !== node) {
            text.replace(...keyword(node), '');
            for (const d of node.declarations) {
              for (const name of bound(d.id)) names.add(name);
              walk(d.id, d, 0);
              if (d.init) walk(d.init, d, 0);
            }
          } else assignInstead(node);
          return;
        }
        for (const d of node.declarations) for (const name of bound(d.id)) inner.add(name);
        break;
      case 'AwaitExpression': {
        if (depth === 0) isAsync = true;
        // A parenthesis at the start of a statement would continue the line before.
        const startsStatement = parent.type === 'ExpressionStatement' && parent.inList
          && !parent.isValue && parent.start === node.start;
        text.replace(node.start, node.argument.start,
          `${startsStatement ? ';' : ''}(${K}.v = await (${K}.off() ? ${K}.never : `);
        walk(node.argument, node, depth);
        text.insert(node.end, `), ${K}.off() && await ${K}.never, ${K}.take())`);
        return;
      }
      case 'ForOfStatement':
        if (node.await) {
          if (depth === 0) isAsync = true;
          const check = `if (${K}.off()) await ${K}.never;`;
          walk(node.left, node, depth);
          walk(node.right, node, depth);
          if (node.body.type === 'BlockStatement') text.insert(node.body.start + 1, check);
          else text.insert(node.body.start, `{${check}`);
          walk(node.body, node, depth);
          if (node.body.type !== 'BlockStatement') text.insert(node.body.end, '}');
          return;
        }
        break;
      case 'ImportExpression':
        text.replace(node.start, node.start + 6, `${K}.import`);
        break;
      case 'MetaProperty':
        if (node.meta.name === 'import') { text.replace(node.start, node.end, `${K}.meta`); return; }
        break;
      case 'CallExpression':
        if (node.callee.type === 'MemberExpression' && /^(then|catch|finally)$/.test(node.callee.property.name)) {
          walk(node.callee, parent, depth);
          for (const argument of node.arguments) {
            if (argument.type !== 'SpreadElement') text.insert(argument.start, `${K}.callback(`);
            walk(argument, node, depth);
            if (argument.type !== 'SpreadElement') text.insert(argument.end, ')');
          }
          return;
        }
        break;
      case 'AssignmentExpression':
        if (node.left.type === 'Identifier') assignments.push([node.left.name, node.right, text.group]);
        break;
      case 'UpdateExpression':
        if (node.argument.type === 'Identifier') assignments.push([node.argument.name, node, text.group]);
        break;
      case 'CatchClause':
        for (const name of bound(node.param)) inner.add(name);
        break;
      case 'ClassDeclaration': case 'ClassExpression':
        if (node.id) inner.add(node.id.name);
        break;
    }
    let below = depth;
    if (isFunction(node)) {
      if (node.id) inner.add(node.id.name);
      for (const param of node.params) for (const name of bound(param)) inner.add(name);
      below += 1;
    } else if (node.type === 'StaticBlock' || node.type === 'PropertyDefinition') below += 1;
    if (/^(Program|BlockStatement|StaticBlock|SwitchCase)$/.test(node.type)) {
      for (const statement of node.type === 'SwitchCase' ? node.consequent : node.body) statement.inList = true;
    }
    // In an expression statement the leftmost expression starts where the statement does, however deep it is.
    const passed = (node.type === 'ExpressionStatement' || (parent && parent.type === 'ExpressionStatement'
      && node.type !== 'AwaitExpression')) ? leftmost(node, parent) : null;
    for (const child of childNodes(node)) {
      walk(child, passed && child.start === passed.start ? passed : node, below);
    }
  }

  /** The statement that `node` begins, to be passed on as the parent of what begins it. */
  function leftmost(node, parent) {
    return node.type === 'ExpressionStatement' ? node : node.start === parent.start ? parent : null;
  }

  function topLevelFunction(node, start) {
    names.add(node.id.name);
    for (const param of node.params) for (const name of bound(param)) inner.add(name);
    text.hoist(start, node.end, () => {
      if (start < node.start) text.replace(start, node.start, '');
      text.insert(node.start, `${node.id.name} = `);
      // Anonymous: the name is inferred from the assignment, and a call to itself goes through the outer name.
      text.replace(node.id.start, node.id.end, '');
      for (const param of node.params) walk(param, node, 1);
      walk(node.body, node, 1);
      text.insert(node.end, ';');
    });
  }

  function topLevelClass(node, start) {
    names.add(node.id.name);
    text.replace(start, node.start, '');
    text.insert(node.start, `${node.id.name} = `);
    for (const child of childNodes(node)) walk(child, node, 0);
    text.insert(node.end, ';');
  }

  function topLevelImport(node) {
    const module = JSON.stringify(node.source.value);
    const attributes = (node.attributes || []).map((a) => `${JSON.stringify(a.key.name ?? a.key.value)}: ${JSON.stringify(a.value.value)}`);
    const parts = node.specifiers.map((s) => {
      names.add(s.local.name);
      ownConstants.add(s.local.name);
      if (s.type === 'ImportNamespaceSpecifier') return `${s.local.name} = m`;
      const name = s.type === 'ImportDefaultSpecifier' ? 'default' : s.imported.name ?? s.imported.value;
      return `${s.local.name} = ${K}.pick(m, ${JSON.stringify(name)}, ${module})`;
    });
    const options = attributes.length ? `, {with: {${attributes}}}` : '';
    imports.push(`{ const m = await ${K}.import(${module}${options}); ${parts.join('; ')} }`);
    text.replace(node.start, node.end, ';');
    isAsync = true;
  }

  const body = tree.body;
  for (const statement of body) statement.inList = true;
  let last = body.length - 1;
  while (last >= 0 && body[last].type === 'EmptyStatement') last--;

  body.forEach((node, index) => {
    if (node.directive === 'use strict') { strict = true; return; }
    switch (node.type) {
      case 'ImportDeclaration': topLevelImport(node); break;
      case 'VariableDeclaration':
        if (/using/.test(node.kind)) { if (/await/.test(node.kind)) isAsync = true; walk(node, tree, 0); } else assignInstead(node);
        break;
      case 'FunctionDeclaration': topLevelFunction(node, node.start); break;
      case 'ClassDeclaration': topLevelClass(node, node.start); break;
      case 'ExportAllDeclaration': text.replace(node.start, node.end, ';'); break;
      case 'ExportNamedDeclaration':
        if (!node.declaration) text.replace(node.start, node.end, ';');
        else if (node.declaration.type === 'FunctionDeclaration') topLevelFunction(node.declaration, node.start);
        else if (node.declaration.type === 'ClassDeclaration') topLevelClass(node.declaration, node.start);
        else { text.replace(node.start, node.declaration.start, ''); assignInstead(node.declaration); }
        break;
      case 'ExportDefaultDeclaration': {
        const what = node.declaration;
        if (what.id && what.type === 'FunctionDeclaration') topLevelFunction(what, node.start);
        else if (what.id && what.type === 'ClassDeclaration') topLevelClass(what, node.start);
        else { text.replace(node.start, what.start, 'void ('); walk(what, node, 0); text.insert(what.end, ');'); }
        break;
      }
      case 'ExpressionStatement':
        if (index === last && node.expression.type !== 'AssignmentExpression') {
          node.isValue = true;
          text.insert(node.expression.start, `${K}.value((`);
          walk(node, tree, 0);
          text.insert(node.expression.end, '))');
          break;
        }
        walk(node, tree, 0);
        break;
      default: walk(node, tree, 0);
    }
  });

  const forbidden = (name) => !inner.has(name) && (ownConstants.has(name) || (constants.has(name) && !names.has(name)));
  for (const [name, node, group] of assignments) {
    if (!forbidden(name)) continue;
    text.group = group;
    if (node.type === 'UpdateExpression') text.replace(node.start, node.end, `${K}.constant()`);
    else { text.insert(node.start, `${K}.constant(`); text.insert(node.end, ')'); }
  }

  text.group = null;
  const head = strict ? '"use strict";' : '';
  text.render(isAsync ? `(async () => {${head}${imports.join('')}` : head, isAsync ? '\n})()' : '');
  return { text, isAsync, names: [...names], constants: [...ownConstants] };
}

module.exports = { K, parse, rewrite };
