// --- Sealed windows ---

const SEALED_SHOWN = 8;

function sealedCard({ sealed }) {
  const p = { chosen: null };
  const heads = [["From, UTC", ""], ["", "bars"], ["Records", "num"], ["Keys", "num"], ["Late", "num", "records that came too late"], ["Rev.", "num", "the highest revision of its rows"]];
  const card = el("article", { class: "card window sealed", "aria-label": `sealed ${sealed.window}`, "data-window": sealed.window },
    el("div", { class: "head" }, p.name = el("h3"), p.about = el("span", { class: "muted small" })),
    p.none = el("p", { class: "muted small sum" }),
    p.past = el("div", { class: "scroll past", tabindex: "0", role: "region", "aria-label": `sealed windows of ${sealed.window}` },
      el("table", {}, el("thead", {}, el("tr", {}, ...heads.map(([text, c, title]) => el("th", { class: c, scope: "col", text, ...(title && { title }), ...(c === "bars" && BARS) })))), p.starts = el("tbody"))),
    p.details = el("details", { class: "small" }, p.title = el("summary"),
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `keys of a sealed window of ${sealed.window}` },
        el("table", {}, el("thead", {}, p.head = el("tr")), p.rows = el("tbody"))),
      p.more = el("p", { class: "muted sum" })));
  p.details.addEventListener("toggle", () => render());
  card.parts = p;
  return card;
}

function updateSealed(card, { sealed, now }) {
  const p = card.parts;
  sayName(p.name, sealed.window);
  const through = known(sealed.through_ms) ? `sealed through ${clock(sealed.through_ms, now)} UTC` : "nothing sealed yet";
  const policy = sealed.revises ? " · late records are added by revisions" : "";
  const stale = known(sealed.as_of_ms) ? ` · as of ${span(Math.max(0, now - sealed.as_of_ms))} ago` : "";
  say(p.about, `${through}${policy}${stale}`);
  const shown = sealed.starts.slice(0, SEALED_SHOWN);
  for (const node of [p.past, p.details]) show(node, shown.length > 0);
  show(p.none, shown.length === 0);
  say(p.none, known(sealed.since_ms) || known(sealed.through_ms) ? "No sealed window is in memory." : "A window is sealed when all records in time are in the lake.");
  if (!shown.length) return;
  const top = most(shown.map(start => start.records));
  each(p.starts, shown, start => start.start_ms, start => sealedRow(card, start), (row, start) => {
    const [, , records, keys, late, revision] = row.cells_;
    const text = period(start.start_ms, start.end_ms, now);
    say(row.button, clock(start.start_ms, now));
    name(row.button, "aria-label", text);
    name(row.button, "title", text);
    name(row.button, "aria-pressed", String(start.start_ms === (p.chosen ?? shown[0].start_ms)));
    name(row, "data-start", String(start.start_ms));
    part(row.fill, start.records / top);
    say(records, count(start.records));
    name(records, "title", start.complete ? "" : "not complete: the window was declared or changed after it began");
    say(keys, count(start.keys));
    say(late, known(start.late) ? count(start.late) : "–");
    name(late, "title", known(start.late) ? "records that came too late for these rows; they are in the partials" : "not known: the live view does not have this window any more");
    say(revision, String(start.revision));
  });
  if (!shown.some(start => start.start_ms === p.chosen)) p.chosen = null;
  const chosen = shown.find(start => start.start_ms === p.chosen) ?? shown[0];
  say(p.title, `Its keys, ${period(chosen.start_ms, chosen.end_ms, now)}${chosen.complete ? "" : ", not complete"}`);
  if (p.details.open) updateKeys(p, sealed, { ...chosen, rows: chosen.rows.map(row => ({ ...row, pending: 0 })) });
}

function sealedRow(card, start) {
  const row = cells([[""], [""], ["num"], ["num"], ["num"], ["num"]]);
  row.fill = el("i", { class: "solid" });
  row.button = el("button", { type: "button", class: "plain" });
  row.button.addEventListener("click", () => {
    const p = card.parts;
    // Choosing the newest follows the newest.
    p.chosen = row === p.starts.firstChild ? null : start.start_ms;
    p.details.open = true;
    render();
  });
  row.cells_[0].append(row.button);
  name(row.cells_[1], "aria-hidden", "true");
  row.cells_[1].append(el("div", { class: "bar" }, row.fill));
  return row;
}
