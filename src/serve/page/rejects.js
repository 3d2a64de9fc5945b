// --- Rejects ---

function rejectRow({ stream, reason }) {
  const p = { label: el("span", { class: "why" }), fill: el("i", { class: "badfill" }), n: el("span", { class: "num" }),
    share: el("span", { class: "num muted" }), samples: el("ul", { class: "samples" }), last: el("span", { class: "muted small" }) };
  const node = el("details", { class: "reject" },
    el("summary", { "data-stream": stream, "data-reason": reason.reason }, p.label, p.n, p.share,
      el("div", { class: "bar", "aria-hidden": "true" }, p.fill)),
    p.last, p.samples);
  node.parts = p;
  // Samples are read by people: while one is open, it stays as it is.
  node.addEventListener("toggle", () => render());
  return node;
}

function updateReject(node, { reason, records, top }) {
  const p = node.parts;
  say(p.label, words(reason.reason));
  say(p.n, count(reason.count));
  say(p.share, records ? `${fine.format(Math.round(reason.count / records * 1e5) / 1e3)} %` : "");
  part(p.fill, reason.count / top);
  if (!node.open) p.kept = null;
  else if (!p.kept) p.kept = reason.samples;
  const samples = p.kept ?? [];
  say(p.last, `The last ${many(samples.length, "record")} when this was opened, newest first:`);
  each(p.samples, samples, s => `${s.shard} ${s.sequence_number} ${s.sub_sequence_number}`, sampleNode, () => {});
}

function sampleNode(sample) {
  const cut = sample.payload_bytes > 256 ? ` (the first 256 of ${count(sample.payload_bytes)} bytes)` : ` (${many(sample.payload_bytes, "byte")})`;
  const sub = sample.sub_sequence_number ? `, ${sample.sub_sequence_number} in its aggregate` : "";
  return el("li", {},
    el("p", { text: sample.detail }),
    el("pre", { tabindex: "0", role: "region", "aria-label": `payload of ${sample.sequence_number}${sub}` }, el("code", { text: sample.payload || "(empty)" })),
    el("p", { class: "muted small", text: `${sample.shard}, ${sample.sequence_number}${sub}, arrived ${clock(sample.arrived_ms, Date.now())} UTC${cut}` }));
}

function rejectsCard({ stream }) {
  const p = { none: el("p", { class: "muted small sum", text: "None since this process started." }), list: el("div") };
  const card = el("article", { class: "card", "aria-label": `rejects of ${stream}` }, el("h3", { text: stream }), p.none, p.list);
  card.parts = p;
  return card;
}

function updateRejectsCard({ parts: p }, { stream, reasons, records }) {
  const top = most(reasons.map(reason => reason.count));
  show(p.none, reasons.length === 0);
  // By name and not by count: what somebody is about to open must not move away.
  each(p.list, reasons.map(reason => ({ stream, reason, records, top })), ({ reason }) => reason.reason, rejectRow, updateReject);
}

function updateRejects(rejects, summary) {
  const records = new Map(summary.streams.map(({ stream, records }) => [stream, records]));
  const streams = rejects.streams.map(of => ({ ...of, records: records.get(of.stream) }));
  show($("rejects-part"), streams.length > 0);
  each($("rejects"), streams, ({ stream }) => stream, rejectsCard, updateRejectsCard);
}

