// --- The verdict ---

const whole = {};
for (const [key, label] of [["rate", "Records a second"], ["behind", "Behind"], ["commit", "Last commit"], ["rejects", "Rejects"]]) {
  whole[key] = fact($("whole"), label);
}

/** What somebody who only glances has to know, worst first: [is bad, in plain words]. */
function findings(summary) {
  return summary.streams.flatMap(({ stream, trouble, lost, shards, tables, records, rejects }) => {
    const found = Object.entries(trouble).map(([who, what]) => [true, `${stream} is not working (${who}): ${what}.`]);
    for (const [shard, range] of Object.entries(lost ?? {})) {
      found.push([true, `${stream} has lost records of ${shard} for good, trimmed before they were read: ${range}.`]);
    }
    const late = shards.filter(shard => shard.state === "reading" && shard.behind_ms > 60000);
    if (late.length) found.push([false, `${stream} is ${span(most(late.map(shard => shard.behind_ms)))} behind on ${many(late.length, "shard")}.`]);
    const fenced = shards.filter(shard => shard.owner === "another").length;
    if (fenced) found.push([false, `Another process commits ${many(fenced, "shard")} of ${stream}.`]);
    if (records > 100 && total(rejects) / records > 0.01) found.push([false, `More than 1 % of the records of ${stream} are rejects.`]);
    for (const { table, seal_trouble: what } of tables) if (what) found.push([false, `Windows of ${table} are not sealed: ${what}.`]);
    for (const { table, maintenance_trouble: what } of tables) if (what) found.push([false, `Maintenance of ${table} does not get on: ${what}.`]);
    return found;
  }).sort(([a], [b]) => b - a);
}

function updateVerdict(summary, isLive, why) {
  const found = findings(summary);
  const bad = summary.streams.filter(stream => !stream.ready).length;
  const [tone, text] = !isLive ? ["bad", `Not live. ${why} What is shown is from ${clock(summary.now_ms, Date.now())} UTC.`]
    : !summary.streams.length ? ["warn", "No stream has started yet."]
    : bad ? ["bad", `No: ${bad} of ${many(summary.streams.length, "stream")} ${bad === 1 ? "is" : "are"} not working.`]
    : found.some(([isBad]) => isBad) ? ["bad", "It works now, but records were lost."]
    : found.length ? ["warn", "Mostly: every stream is read and committed. Worth a look:"]
    : ["good", "Yes: every stream is read and committed."];
  say($("state"), text);
  name($("verdict"), "class", `card verdict ${tone}`);
  say($("live"), isLive ? "live" : "not live");
  name($("live"), "class", `pill ${isLive ? "good" : "bad"}`);
  document.body.classList.toggle("stale", !isLive);
  show($("alarms"), found.length > 0);
  each($("alarms"), found, ([, text]) => text.replace(/\d+(\.\d+)? (s|min|h|d)\b/g, ""), () => el("li"), (node, [isBad, text]) => {
    say(node, text);
    name(node, "class", isBad ? "bad" : "warn");
  });
  const rates = summary.streams.map(({ stream }) => history.get(stream)?.at(-1)?.rate ?? 0);
  const behind = most(summary.streams.map(behindOf).filter(known));
  const commit = least(summary.streams.flatMap(stream => stream.tables.map(table => table.commit_age_ms)).filter(known));
  const [records, rejects] = [summary.streams.map(stream => stream.records), summary.streams.map(stream => total(stream.rejects))]
    .map(numbers => numbers.reduce((sum, n) => sum + n, 0));
  const rate = rates.reduce((sum, n) => sum + n, 0);
  say(whole.rate, rateText(rate));
  say(whole.behind, behindText(behind));
  say(whole.commit, commit === null ? "none yet" : `${span(commit)} ago`);
  say(whole.rejects, records ? `${fine.format(Math.round(rejects / records * 1e5) / 1e3)} %` : "none");
  document.title = `${isLive ? "" : "not live · "}${bad ? "not fine · " : ""}${rateText(rate)}/s · ${summary.pipeline} · Pintail`;
}

// --- What is known, and showing it ---

const told = { summary: null, windows: new Map(), sealed: new Map(), rejects: null };
let isLive = false, why = "Connecting.", isDrawing = false;

/** Once a frame, and not while nobody looks. */
function render() {
  if (isDrawing || !told.summary) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    const { summary, windows, sealed, rejects } = told;
    say($("pipeline"), summary.pipeline);
    say($("uptime"), `up ${span(summary.now_ms - summary.started_ms)}`);
    say($("version"), `Pintail ${summary.version}`);
    updateVerdict(summary, isLive, why);
    show($("no-streams"), summary.streams.length === 0);
    each($("streams"), summary.streams, ({ stream }) => stream, streamCard, updateStream);
    const live = [...windows.values()];
    show($("windows-part"), live.length > 0);
    each($("windows"), live.map(live => ({ live, now: summary.now_ms })), ({ live }) => `${live.stream} ${live.window}`, ({ live }) => windowCard(live), updateWindow);
    const past = [...sealed.values()];
    show($("sealed-part"), past.length > 0);
    each($("sealed"), past.map(sealed => ({ sealed, now: summary.now_ms })), ({ sealed }) => `${sealed.stream} ${sealed.window}`, sealedCard, updateSealed);
    updateRejects(rejects, summary);
    updateShards(summary.streams);
  });
}

function takeWindow(change) {
  const key = `${change.stream} ${change.window}`;
  const last = told.windows.get(key);
  // A server that has just started shows no start until it has caught up; until then what was there stays.
  if (change.catching_up) return told.windows.set(key, { ...change, starts: last?.starts ?? [] });
  const starts = new Map((last?.starts ?? []).map(start => [start.start_ms, start]));
  for (const start of change.starts) starts.set(start.start_ms, start);
  const shown = change.shown ?? change.starts.map(start => start.start_ms);
  told.windows.set(key, { ...change, starts: shown.map(at => starts.get(at)).filter(known) });
}

const takeSealed = sealed => told.sealed.set(`${sealed.stream} ${sealed.window}`, sealed);

const takes = {
  hello({ summary, windows, sealed, rejects, history: past }) {
    const declared = new Set(windows.map(live => `${live.stream} ${live.window}`));
    for (const key of told.windows.keys()) if (!declared.has(key)) told.windows.delete(key);
    windows.forEach(takeWindow);
    told.sealed.clear();
    sealed.forEach(takeSealed);
    remember(summary, past);
    Object.assign(told, { summary, rejects });
  },
  summary(summary) {
    remember(summary, null);
    told.summary = summary;
  },
  windows(changes) { changes.forEach(takeWindow); },
  sealed(changes) { changes.forEach(takeSealed); },
  rejects(rejects) { told.rejects = rejects; },
};

// --- The line to the server ---

let source = null, watchdog = null;

function connect() {
  source = new EventSource("/api/stream");
  for (const [event, take] of Object.entries(takes)) {
    source.addEventListener(event, ({ data }) => {
      take(JSON.parse(data));
      heard();
    });
  }
  source.onerror = () => lost("Pintail does not answer.");
  watch();
}

function heard() {
  isLive = true;
  watch();
  render();
}

function watch() {
  clearTimeout(watchdog);
  watchdog = setTimeout(() => lost("Pintail has not said anything for a while."), SILENCE_MS);
}

async function lost(reason) {
  clearTimeout(watchdog);
  source.close();
  [isLive, why] = [false, reason];
  try {
    // An event source does not tell why it was refused.
    const { status } = await fetch("/api/summary", { cache: "no-store", signal: AbortSignal.timeout(SILENCE_MS) });
    if (status === 401) why = "It needs the token: open /?token=TOKEN once.";
    else if (status === 200) why = "It is fed to as many pages as it can; one of them has to be closed, or the line broke just now.";
  } catch {}
  if (!told.summary) {
    say($("state"), why);
    say($("live"), "not live");
    name($("live"), "class", "pill bad");
  }
  render();
  setTimeout(connect, AGAIN_MS);
}

connect();
