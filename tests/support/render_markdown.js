// Prints, as HTML, what Dagster's own web UI makes of the Markdown on standard input.
//
//     node render_markdown.js PATH_OF_dagster_webserver/webapp/build/_next/static < page.md
//
// It loads the chunks that the UI loads and calls the component they show Markdown metadata with: the same parser,
// extensions and sanitiser, but no browser. `document` is asked for one thing there, to decode a named character
// reference, and stands in for the four that HTML's own syntax needs.
"use strict";
const fs = require("fs");
const path = require("path");

const REFERENCES = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"' };
globalThis.document = {
  createElement: () => ({
    set innerHTML(value) {
      this.textContent = REFERENCES[value] || value;
    },
  }),
};
globalThis.self = globalThis.window = globalThis;

const factories = {};
self.webpackChunk_N_E = { push: ([, modules]) => Object.assign(factories, modules) };
const root = process.argv[2];
for (const name of fs.readdirSync(root, { recursive: true })) {
  if (!name.endsWith(".js")) continue;
  const source = fs.readFileSync(path.join(root, name), "utf8");
  if (!source.slice(0, 300).includes("(self.webpackChunk_N_E=")) continue;
  (0, eval)(source);
}

const loaded = {};
function load(id) {
  if (loaded[id]) return loaded[id].exports;
  if (!factories[id]) throw new Error(`the UI's chunks hold no module ${id}`);
  const module = (loaded[id] = { id, exports: {} });
  factories[id].call(module.exports, module, module.exports, load);
  return module.exports;
}
load.d = (exports, getters) => {
  for (const key in getters) Object.defineProperty(exports, key, { enumerable: true, get: getters[key] });
};
load.r = (exports) => Object.defineProperty(exports, "__esModule", { value: true });
load.n = (module) => {
  const getter = module && module.__esModule ? () => module.default : () => module;
  load.d(getter, { a: getter });
  return getter;
};
load.o = (object, key) => Object.prototype.hasOwnProperty.call(object, key);
load.g = globalThis;

const found = Object.keys(factories).filter((id) => /MarkdownWithPlugins:\(\)=>/.test(String(factories[id])));
if (found.length !== 1) throw new Error(`expected one MarkdownWithPlugins in the UI's chunks, found ${found.length}`);

const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
function html(node) {
  if (node === null || node === undefined || typeof node === "boolean") return "";
  if (Array.isArray(node)) return node.map(html).join("");
  if (typeof node !== "object") return escaped(node);
  const { children, ...attributes } = node.props;
  if (typeof node.type === "function") return html(node.type(node.props));
  if (typeof node.type === "symbol") return html(children);
  const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${escaped(value)}"`);
  return `<${node.type}${written.join("")}>${html(children)}</${node.type}>`;
}
process.stdout.write(html(load(found[0]).default({ children: fs.readFileSync(0, "utf8") })));
