// --- Shards ---

const STATES = { reading: "good", waiting: "", ended: "", parked: "warn", fenced: "warn", lost: "bad" };
const OWNERS = { self: "this process", another: "another process" };
const HASH_MAX = 2 ** 128;

function shardRow() {
  const row = cells([["tree"], ["", "State"], ["", "Owner"], ["", "Parents"], ["", "Hash key range"], ["", "Behind"],
    ["num", "Newest record"], ["num", "Records"], ["num", "Bytes"]]);
  const p = row.parts = { state: el("span", { class: "pill" }), range: el("div", { class: "range" }, el("i")),
    fill: el("i"), behind: el("span") };
  row.cells_[1].append(p.state);
  row.cells_[4].append(p.range);
  row.cells_[5].append(el("div", { class: "lag" }, el("div", { class: "bar", "aria-hidden": "true" }, p.fill), p.behind));
  return row;
}

function updateShard(row, { stream, shard, depth }) {
  const p = row.parts, [title, , owner, parents, range, , age, records, size] = row.cells_;
  say(title, `${stream} / ${shard.shard}`);
  title.style.setProperty("--depth", Math.min(depth, 8));
  title.classList.toggle("child", depth > 0);
  say(p.state, isLive ? shard.state || "starting" : UNKNOWN);
  name(p.state, "class", `pill ${isLive ? STATES[shard.state] ?? "" : ""}`);
  say(owner, OWNERS[shard.owner] ?? "–");
  say(parents, shard.parents.length ? shard.parents.join(", ") : "–");
  show(p.range, known(shard.hash_range));
  if (known(shard.hash_range)) {
    const [from, to] = shard.hash_range.map(Number);
    p.range.firstChild.style.setProperty("--from", (from / HASH_MAX).toFixed(4));
    part(p.range.firstChild, (to - from) / HASH_MAX);
    name(range, "title", shard.hash_range.join(" to "));
  }
  const behind = shard.state === "reading" ? shard.behind_ms : null;
  // From 0.1 s to an hour, by the logarithm: a second and a minute both show.
  part(p.fill, known(behind) && behind > 0 ? Math.log10(1 + behind / 100) / 4.56 : 0);
  p.fill.className = behind > 60000 ? "badfill" : behind > 5000 ? "warnfill" : "solid";
  say(p.behind, behindText(behind));
  say(age, known(shard.record_age_ms) ? `${span(shard.record_age_ms)} ago` : "–");
  say(records, count(shard.records));
  say(size, bytes(shard.bytes));
}

/** A stream's shards, each below its first parent. What has ended is shown only above what has not. */
function familyTree({ stream, shards }) {
  const byId = new Map(shards.map(shard => [shard.shard, shard]));
  const isShown = shard => shard.state !== "ended" || shard.children.some(child => byId.get(child).state !== "ended");
  const shown = shards.filter(isShown);
  const ids = new Set(shown.map(shard => shard.shard));
  const firstParent = shard => shard.parents.find(parent => ids.has(parent));
  const rows = [];
  const add = (shard, depth) => {
    rows.push({ stream, shard, depth });
    for (const child of shard.children.map(child => byId.get(child))) {
      if (ids.has(child.shard) && firstParent(child) === shard.shard) add(child, depth + 1);
    }
  };
  shown.filter(shard => firstParent(shard) === undefined).forEach(shard => add(shard, 0));
  return { rows, ended: shards.length - shown.length };
}

function updateShards(streams) {
  const trees = streams.map(familyTree);
  const rows = trees.flatMap(tree => tree.rows);
  const more = trees.reduce((sum, tree) => sum + tree.ended, 0) + Math.max(0, rows.length - SHARDS_SHOWN);
  show($("shards-part"), rows.length > 0);
  each($("shards"), rows.slice(0, SHARDS_SHOWN), s => JSON.stringify([s.stream, s.shard.shard]), shardRow, updateShard);
  show($("more-shards"), more > 0);
  say($("more-shards"), `and ${count(more)} more in /api/shards, ended ones among them`);
}

