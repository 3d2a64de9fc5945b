// --- Rates ---

/** Samples of totals and rates by stream, oldest first. A rate is over five seconds, never over one sample. */
const history = new Map();

function remember(summary, past) {
  if (past) history.clear();
  for (const { stream, samples } of past?.streams ?? []) {
    for (const [at, records, bytes] of samples) addSample(stream, at, records, bytes);
  }
  for (const { stream, records, bytes } of summary.streams) addSample(stream, summary.now_ms, records, bytes);
}

function addSample(stream, at, records, bytes) {
  const samples = history.get(stream) ?? [];
  history.set(stream, samples);
  const last = samples.at(-1);
  if (last && (at < last.at || records < last.records)) samples.length = 0;
  else if (last && at - last.at < SAMPLE_MS / 2) samples.pop();
  const base = samples.findLast(older => older.at <= at - RATE_OVER_MS) ?? samples[0];
  const seconds = base ? (at - base.at) / 1000 : 0;
  const per = (now, then) => seconds > 0.5 ? (now - then) / seconds : null;
  samples.push({ at, records, bytes, rate: per(records, base?.records), byteRate: per(bytes, base?.bytes) });
  while (samples[0].at < at - HISTORY_MS) samples.shift();
}

// --- A stream ---

function fact(list, label) {
  const value = el("dd", { text: "–" });
  list.append(el("div", {}, el("dt", { text: label }), value));
  return value;
}

function streamCard(stream) {
  const p = {};
  const facts = el("dl", { class: "facts" });
  p.behind = fact(facts, "Behind");
  p.age = fact(facts, "Newest record");
  p.commit = fact(facts, "Last commit");
  p.line = svg("polyline", { class: "line" });
  p.area = svg("polygon", { class: "area" });
  p.spark = svg("svg", { class: "spark", viewBox: "0 0 120 60", preserveAspectRatio: "none", role: "img" },
    svg("line", { class: "base", x1: 0, x2: 120, y1: 60, y2: 60 }), p.area, p.line);
  p.rows = el("i", { class: "solid" });
  p.hand = el("i", { class: "hatch" });
  p.rejected = el("i", { class: "badfill" });
  p.tables = el("tbody");
  const head = [["", "Added to"], ["num", "Rows"], ["num", "Files"], ["num", "Size"], ["num", "Committed"]];
  const card = el("article", { class: "card", "aria-label": `stream ${stream.stream}`, "data-stream": stream.stream },
    el("div", { class: "head" }, el("h3", { text: stream.stream }), p.state = el("span", { class: "pill" })),
    el("div", { class: "flow" },
      el("div", {}, p.rate = el("div", { class: "rate" }), p.unit = el("div", { class: "muted small" })), p.spark),
    facts,
    p.sum = el("p", { class: "sum small counts" }),
    el("div", { class: "bar", "aria-hidden": "true" }, p.rows, p.hand, p.rejected),
    p.nullsTitle = el("p", { class: "small muted sum", text: "Values set to null, by column and reason" }),
    p.nulls = el("div", { class: "reasons" }),
    p.lake = el("div", { class: "scroll lake", tabindex: "0", role: "region", "aria-label": `tables of ${stream.stream}` },
      el("table", {}, el("thead", {}, el("tr", {}, ...head.map(([c, text]) => el("th", { class: c, scope: "col", text })))), p.tables)));
  card.parts = p;
  return card;
}

function behindOf(stream) {
  const open = stream.shards.filter(shard => shard.state === "reading");
  return most(open.map(shard => shard.behind_ms).filter(known));
}

// What was true when Pintail was last heard is not said of now.
const UNKNOWN = "not known";
const behindText = behind => !isLive ? UNKNOWN : !known(behind) ? "–" : behind === 0 ? "caught up" : span(behind);

function updateStream(card, stream) {
  const p = card.parts;
  const behind = behindOf(stream);
  const age = least(stream.shards.map(shard => shard.record_age_ms).filter(known));
  const commit = least(stream.tables.map(table => table.commit_age_ms).filter(known));
  say(p.state, !isLive ? UNKNOWN : stream.ready ? "ready" : "not ready");
  name(p.state, "class", `pill ${!isLive ? "" : stream.ready ? "good" : "bad"}`);
  say(p.behind, behindText(behind));
  p.behind.className = !isLive ? "" : behind > 60000 ? "bad" : behind > 5000 ? "warn" : "";
  say(p.age, age === null ? "none yet" : `${span(age)} ago`);
  say(p.commit, commit === null ? "none yet" : `${span(commit)} ago`);
  updateRate(p, history.get(stream.stream));
  const rejects = total(stream.rejects);
  const hand = Math.max(0, stream.records - stream.rows - rejects);
  const inHand = hand ? ` + ${count(hand)} in hand` : "";
  say(p.sum, `${count(stream.records)} read = ${count(stream.rows)} rows + ${count(rejects)} rejects${inHand}`);
  part(p.rows, stream.rows / stream.records);
  part(p.hand, hand / stream.records);
  part(p.rejected, rejects / stream.records);
  const nulls = Object.entries(stream.nulls).flatMap(([column, counts]) => Object.entries(counts)
    .filter(([reason]) => reason !== "absent").map(([reason, n]) => [`${column}: ${words(reason)}`, n]));
  show(p.nullsTitle, nulls.length > 0);
  reasons(p.nulls, nulls, "warnfill");
  show(p.lake, stream.tables.length > 0);
  const kind = table => ["rows", "rejects", "partials", "sealed"].indexOf(table.kind);
  each(p.tables, stream.tables.sort((a, b) => kind(a) - kind(b)), table => table.table, tableRow, updateTable);
}

function updateRate(p, samples) {
  const last = samples.at(-1);
  say(p.rate, rateText(last.rate));
  say(p.unit, last.byteRate === null ? "records/s" : `records/s · ${bytes(last.byteRate)}/s`);
  const drawn = samples.filter(sample => sample.rate !== null);
  const top = Math.max(1, ...drawn.map(sample => sample.rate)) * 1.1;
  const points = drawn.map(({ at, rate }) =>
    `${(120 - (last.at - at) / HISTORY_MS * 120).toFixed(2)},${(60 - rate / top * 60).toFixed(2)}`);
  p.line.setAttribute("points", points.join(" "));
  const left = points.length ? points[0].split(",")[0] : 120;
  p.area.setAttribute("points", points.length ? `${left},60 ${points.join(" ")} 120,60` : "");
  name(p.spark, "aria-label", `records a second over the last two minutes, now ${rateText(last.rate)}`);
}

/** The five largest of [label, count], with bars relative to the largest. */
function reasons(parent, counts, fill) {
  const shown = counts.filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, 5);
  show(parent, shown.length > 0);
  const create = () => {
    const node = el("div");
    const p = node.parts = { label: el("span"), fill: el("i", { class: fill }), n: el("span", { class: "num" }) };
    node.append(p.label, el("div", { class: "bar", "aria-hidden": "true" }, p.fill), p.n);
    return node;
  };
  each(parent, shown, ([label]) => label, create, ({ parts: p }, [label, n]) => {
    say(p.label, words(label));
    say(p.n, count(n));
    part(p.fill, n / shown[0][1]);
  });
}

function cells(specs) {
  const row = el("tr");
  row.cells_ = specs.map(([c, label]) => el("td", { class: c, ...(label && { "data-label": label }) }));
  row.append(...row.cells_);
  return row;
}

const tableRow = () => cells([[""], ["num"], ["num"], ["num"], ["num"]]);

function updateTable(row, table) {
  const [table_, rows, files, size, commit] = row.cells_;
  sayName(table_, table.table);
  name(table_, "title", `${table.kind}, version ${table.version}, ${table.location}`);
  say(rows, count(table.rows));
  say(files, count(table.files));
  say(size, bytes(table.bytes));
  say(commit, known(table.commit_age_ms) ? `${span(table.commit_age_ms)} ago` : "–");
}

