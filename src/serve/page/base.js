"use strict";
// The page decides nothing: it shows what it is told and changes only what is different. Text from records
// reaches the document as text nodes, never as markup.

const SILENCE_MS = 5000, AGAIN_MS = 2000, HISTORY_MS = 120000, SAMPLE_MS = 1000, RATE_OVER_MS = 5000;
const STARTS = 12, ROWS = 10, LINES = 5, SHARDS_SHOWN = 200;
const SVG = "http://www.w3.org/2000/svg";
// Said, and not left to the tags: a row that CSS makes a grid of is no row any more to some screen readers.
const ROLES = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", th: "columnheader", td: "cell" };
const OPERABLE = "a[href], button, summary, [tabindex]";

// --- Words and numbers ---

const grouped = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });

// Event times mean the same wherever the page is looked at: in UTC, and with the date unless it is of today.
const dayOf = ms => new Date(ms).toISOString().slice(0, 10);
const timeOf = ms => new Date(ms).toISOString().slice(11, 19);
const clock = (ms, now) => dayOf(ms) === dayOf(now) ? timeOf(ms) : `${dayOf(ms)} ${timeOf(ms)}`;
const period = (from, to, now) => `${clock(from, now)} – ${clock(to, from)} UTC`;

const count = n => n < 1e6 ? grouped.format(n) : short.format(n);
const many = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const words = text => String(text).replaceAll("_", " ");

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = n < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(n) / 10));
  const value = n / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

function span(ms) {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

const rateText = rate => rate === null ? "–" : rate > 0 && rate < 10 ? rate.toFixed(1) : count(Math.round(rate));
const total = counts => Object.values(counts).reduce((sum, n) => sum + n, 0);
const least = values => values.length ? Math.min(...values) : null;
const most = values => values.length ? Math.max(...values) : null;
const known = value => value !== null && value !== undefined;

// --- The document ---

const $ = id => document.getElementById(id);

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  if (ROLES[tag]) node.setAttribute("role", ROLES[tag]);
  for (const [name, value] of Object.entries(props)) {
    if (name === "class") node.className = value;
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Text that may break after its underscores. */
function sayName(node, text) {
  if (node.textContent !== text) node.replaceChildren(...text.split(/(?<=_)/).flatMap(piece => [piece, el("wbr")]));
}

function name(node, attribute, value) {
  if (node.getAttribute(attribute) !== value) node.setAttribute(attribute, value);
}

const part = (node, share) => node.style.setProperty("--part", Math.max(0, Math.min(1, share || 0)).toFixed(4));
const show = (node, visible) => { node.hidden = !visible; };

/** Makes the children of `parent` one a key, in the items' order, keeping the nodes that are already there. */
function each(parent, items, keyOf, create, update) {
  const old = parent.shown ?? new Map();
  const now = new Map(items.map(item => [keyOf(item), item]));
  const held = document.activeElement;
  const place = parent.contains(held) ? [...parent.children].findIndex(child => child.contains(held)) : -1;
  // Those that go, go first: a node that is moved loses the focus and its transition.
  for (const [key, node] of old) if (!now.has(key)) node.remove();
  let next = parent.firstChild;
  for (const [key, item] of now) {
    const node = old.get(key) ?? create(item);
    now.set(key, node);
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
    update(node, item);
  }
  parent.shown = now;
  if (place >= 0 && document.activeElement === document.body) hold(parent, held, place);
}

/** Whoever stood on what was moved still stands there; on what is gone, on what came to its place. */
function hold(parent, held, place) {
  const heir = parent.children[Math.min(place, parent.children.length - 1)];
  const node = held.isConnected ? held : heir?.matches(OPERABLE) ? heir : heir?.querySelector(OPERABLE);
  node?.focus({ preventScroll: true });
}

