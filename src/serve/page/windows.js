// --- Windows ---

// A column of bars says nothing that the numbers beside it do not.
const BARS = { "aria-hidden": "true" };

function windowCard(live) {
  const p = { chosen: null };
  const card = el("article", { class: "card window", "aria-label": `window ${live.window}`, "data-window": live.window },
    el("div", { class: "head" }, p.name = el("h3"), p.about = el("span", { class: "muted small" })),
    p.starts = el("div", { class: "starts", role: "group", "aria-label": "the last starts, newest last; choose one" }),
    p.clock = el("div", { class: "bar clock", "aria-hidden": "true" }, p.passed = el("i", { class: "solid" })),
    p.title = el("p", { class: "small sum" }),
    p.ahead = el("p", { class: "small muted sum ahead" }),
    p.scroll = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `keys of ${live.window}` },
      el("table", {}, el("thead", {}, p.head = el("tr")), p.rows = el("tbody"))),
    p.more = el("p", { class: "small muted sum" }),
    p.lines = el("figure", { class: "lines" },
      p.scale = el("p", { class: "muted small" }),
      p.plot = svg("svg", { viewBox: "0 0 300 90", preserveAspectRatio: "none", role: "img" }), p.names = el("figcaption", { class: "names" }),
      el("details", { class: "small" }, el("summary", { text: "The same as a table" }),
        el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `starts of ${live.window}` },
          el("table", {}, el("thead", {}, p.overHead = el("tr")), p.over = el("tbody"))))));
  card.parts = p;
  return card;
}

function updateWindow(card, { live, now }) {
  const p = card.parts;
  sayName(p.name, live.window);
  card.classList.toggle("wide", live.keys.length + live.measures.length > 3);
  p.again = () => updateWindow(card, { live, now });
  // Others' records come from the lake, when they are committed; what this process reads is there at once.
  const others = known(live.as_of_ms) ? ` · what others read: as of ${span(Math.max(0, now - live.as_of_ms))} ago` : "";
  say(p.about, `${live.stream} · every ${span(live.every_ms).replace(/ 0 s$| 0 min$|\.0(?= s)/, "")}${others}`);
  // Whoever posted them has a clock or a field that is wrong, and they must not be what is looked at instead of now.
  const { starts, records } = live.ahead;
  show(p.ahead, records > 0);
  say(p.ahead, records ? `${many(starts, "start")} in the future, ${many(records, "record")}: their time is later than the clock` : "");
  if (!live.starts.some(start => start.start_ms === p.chosen)) p.chosen = null;
  const chosen = live.starts.find(start => start.start_ms === p.chosen) ?? live.starts[0];
  const top = most(live.starts.map(start => start.records));
  each(p.starts, [...live.starts].reverse(), start => start.start_ms, start => startButton(card, start), (button, start) => {
    const committed = start.records - start.pending;
    part(button.firstChild, start.pending / top);
    button.firstChild.classList.toggle("none", start.pending === 0);
    part(button.lastChild, committed / top);
    name(button, "aria-pressed", String(start === chosen));
    const label = `${period(start.start_ms, start.end_ms, now)}: ${count(start.records)} records, ${count(start.pending)} of them not committed yet`;
    name(button, "aria-label", label);
    name(button, "title", label);
  });
  for (const node of [p.starts, p.clock, p.scroll]) show(node, chosen !== undefined);
  show(p.lines, live.starts.length > 1 && live.keys.length > 0);
  const unrestored = live.not_shown ? ` Some starts are in the lake and not here: ${live.not_shown}` : "";
  if (!chosen) {
    const empty = live.not_shown ? "No start is wholly here yet." : "No records in this window yet.";
    say(p.title, (live.catching_up ? "Just started: catching up with what was shown before." : empty) + unrestored);
    say(p.more, "");
    return;
  }
  const elapsed = (now - chosen.start_ms) / (chosen.end_ms - chosen.start_ms);
  part(p.passed, elapsed);
  const state = elapsed < 1 ? `${span(chosen.end_ms - now)} left` : "over";
  const pending = chosen.pending ? ` · ${count(chosen.pending)} not committed yet` : "";
  const late = live.catching_up ? "Just started, catching up; as before: " : "";
  say(p.title, `${late}${period(chosen.start_ms, chosen.end_ms, now)} · ${state} · ${many(chosen.records, "record")}${pending}${unrestored}`);
  updateKeys(p, live, chosen);
  updateLines(p, live, now);
}

function startButton(card, start) {
  const button = el("button", { type: "button" }, el("i", { class: "hatch" }), el("i", { class: "solid" }));
  button.addEventListener("click", () => {
    const p = card.parts;
    // Choosing the newest follows the newest.
    p.chosen = button === p.starts.lastChild ? null : start.start_ms;
    p.again();
  });
  return button;
}

function updateKeys(p, live, start) {
  const rows = start.rows.slice(0, ROWS);
  // A measure that counts the records says it already.
  const counted = live.measures.some((_, i) => rows.every(row => row.measures[i] === row.records));
  const heads = [[live.keys.map(words).join(" · "), ""], ["", ""], ["records", "num"], ...live.measures.map(measure => [words(measure), "num"])];
  each(p.head, heads.map((head, i) => [i, ...head]), ([i]) => i, ([i, , c]) => el("th", { class: c, scope: "col", ...(i === 1 && BARS) }), (th, [i, text]) => {
    say(th, text);
    show(th, i !== 2 || !counted);
  });
  const create = () => {
    const row = cells([[""], [""], ["num"], ...live.measures.map(() => ["num"])]);
    row.parts = { solid: el("i", { class: "solid" }), hatch: el("i", { class: "hatch" }) };
    name(row.cells_[1], "aria-hidden", "true");
    row.cells_[1].append(el("div", { class: "bar" }, row.parts.solid, row.parts.hatch));
    return row;
  };
  each(p.rows, rows, row => JSON.stringify(row.key), create, (node, row) => {
    const [key, , records, ...measures] = node.cells_;
    const title = row.key.length ? row.key.map(keyText).join(" · ") : "all";
    say(key, title);
    name(key, "title", title);
    part(node.parts.solid, (row.records - row.pending) / rows[0].records);
    part(node.parts.hatch, row.pending / rows[0].records);
    say(records, count(row.records));
    show(records, !counted);
    measures.forEach((cell, i) => say(cell, measureText(row.measures[i])));
  });
  const rest = start.records - rows.reduce((sum, row) => sum + row.records, 0);
  show(p.more, start.keys > rows.length);
  say(p.more, `and ${many(start.keys - rows.length, "more key")} with ${many(rest, "record")}`);
}

// --- The largest keys over the starts ---

const keyName = row => row.key.map(keyText).join(" · ");

/** The keys with most records over all starts shown, and their records by start, oldest first. */
function largest(live) {
  const sums = new Map();
  for (const row of live.starts.flatMap(start => start.rows)) {
    const key = JSON.stringify(row.key);
    const kept = sums.get(key) ?? { key, name: keyName(row), sum: 0 };
    kept.sum += row.records;
    sums.set(key, kept);
  }
  const lines = [...sums.values()].sort((a, b) => b.sum - a.sum || (a.key < b.key ? -1 : 1)).slice(0, LINES);
  const starts = [...live.starts].reverse();
  for (const line of lines) {
    // A key that is not among a start's largest is not drawn there: it is small, and not nothing.
    line.records = starts.map(start => start.rows.find(row => JSON.stringify(row.key) === line.key)?.records
      ?? (start.keys <= start.rows.length ? 0 : null));
  }
  return { lines, starts };
}

function updateLines(p, live, now) {
  const { lines, starts } = largest(live);
  const highest = Math.max(1, ...lines.flatMap(line => line.records.map(n => n ?? 0))), top = highest * 1.08;
  say(p.scale, `Largest keys over ${many(starts.length, "start")}, records from 0 to ${count(highest)}`);
  const x = i => starts.length < 2 ? 0 : 4 + i / (starts.length - 1) * 292;
  const y = n => 86 - n / top * 82;
  const order = new Map(lines.map(({ key }, i) => [key, i]));
  const create = () => {
    const node = svg("g", {});
    node.append(node.line = svg("path", { class: "line" }), node.dot = svg("path", { class: "dot" }));
    return node;
  };
  each(p.plot, lines, ({ key }) => key, create, (node, { key, records }) => {
    node.setAttribute("class", `series s${order.get(key)}`);
    const points = records.map((n, i) => n === null ? null : `${x(i).toFixed(1)},${y(n).toFixed(1)}`);
    const path = points.map((point, i) => point === null ? "" : `${i === 0 || points[i - 1] === null ? "M" : "L"}${point}`).join("");
    name(node.line, "d", path || "M0,0");
    const last = records.findLastIndex(known);
    // A line without length and with round ends is a dot that no stretching makes an egg.
    name(node.dot, "d", last < 0 ? "" : `M${x(last).toFixed(1)},${y(records[last]).toFixed(1)}h0`);
  });
  name(p.plot, "aria-label", `records of the ${lines.length} largest keys over ${starts.length} starts: ${lines.map(({ name: key, records }) =>
    `${key} ${count(records.at(-1) ?? 0)} in the newest`).join(", ")}`);
  const swatch = () => {
    const node = el("span", {}, svg("svg", { viewBox: "0 0 24 8", "aria-hidden": "true" }, svg("path", { class: "line", d: "M1,4L23,4" })), el("span"));
    return node;
  };
  each(p.names, lines, ({ key }) => key, swatch, (node, { key, name: text }) => {
    node.className = `series s${order.get(key)}`;
    say(node.lastChild, text);
    name(node, "title", text);
  });
  const table = p.over.closest("details");
  if (!table.open) return void (table.ontoggle = () => p.again());
  each(p.overHead, [["start", "from, UTC"], ...lines.map(({ key, name }) => [key, name])], ([key]) => key, ([key]) => el("th", { scope: "col", class: key === "start" ? "" : "num" }), (th, [, text]) => say(th, text));
  each(p.over, starts.map((start, i) => ({ start, values: lines.map(line => line.records[i]) })), ({ start }) => start.start_ms, () => el("tr"), (row, { start, values }) => {
    const cells = [clock(start.start_ms, now), ...values.map(n => n === null ? "–" : count(n))];
    each(row, cells.map((text, i) => [i, text]), ([i]) => i, ([i]) => el("td", { class: i ? "num" : "" }), (td, [, text]) => say(td, text));
  });
}

const keyText = value => value === null ? "(none)" : value === "__other__" ? "(other keys)" : String(value);
// Quantiles are an object of numbers, the most frequent values a list with counts.
const measureText = value => typeof value === "number" ? (Math.abs(value) >= 1e6 ? short : Number.isInteger(value) ? grouped : fine).format(value)
  : value === null ? "–"
  : Array.isArray(value) ? value.map(each => `${each.value} ${measureText(each.count)}`).join(", ")
  : typeof value === "object" ? Object.entries(value).map(([name, each]) => `${name} ${measureText(each)}`).join(" · ")
  : String(value);

