"use strict";
// Draws the plots from the report in this page: lines over time, a legend that shows the values under the pointer.
const report = JSON.parse(document.getElementById("report").textContent);
const samples = report.samples;
const NS = "http://www.w3.org/2000/svg";
const MIB = 1048576;

// What happened between two samples, as a rate.
const rates = (value) =>
  samples.slice(1).map((now, i) => {
    const before = samples[i];
    return [now.seconds, (value(now) - value(before)) / Math.max(now.seconds - before.seconds, 1e-3)];
  });
const levels = (value) => samples.map((now) => [now.seconds, value(now)]);
const percentiles = (latency) =>
  [["p50", "p50"], ["p90", "p90"], ["p99", "p99"], ["p99.9", "p999"], ["max", "max"]].map(([name, key]) => ({
    name,
    points: latency.by_second.map((second, i) => [report.posting_from_s + i + 0.5, second.count ? second[key] : null]),
  }));

// Seconds that the commits of a second took, each.
function each(seconds) {
  return samples.slice(1).map((now, i) => {
    const commits = now.commits - samples[i].commits;
    return [now.seconds, commits > 0 ? ((now[seconds] - samples[i][seconds]) / commits) * 1000 : null];
  });
}

// Few shards have a line each; of many the worst and the middle one are shown.
function lag() {
  const shards = [...new Set(samples.flatMap((now) => Object.keys(now.behind_s)))].sort();
  if (shards.length <= 12) {
    return shards.map((name) => ({ name, points: levels((now) => now.behind_s[name] ?? null) }));
  }
  const sorted = (now) => Object.values(now.behind_s).sort((a, b) => a - b);
  return [
    { name: "the worst of " + shards.length, points: levels((now) => sorted(now).at(-1) ?? null) },
    { name: "the middle one", points: levels((now) => sorted(now)[Math.floor(sorted(now).length / 2)] ?? null) },
  ];
}

function files() {
  let active = 0;
  return report.commits.map((commit) => {
    active += commit.files_added - commit.files_removed;
    return [commit.seconds, active];
  });
}

const PLOTS = {
  throughput: () => [
    { name: "posted", points: rates((now) => now.posted) },
    { name: "read", points: rates((now) => now.read) },
    { name: "rejected", points: rates((now) => now.rejects) },
  ],
  window: () => percentiles(report.window_ms),
  lake: () => percentiles(report.lake_ms),
  lag: () => lag(),
  cpu: () =>
    ["pintail", "kinesis", "s3", "producer", "harness"]
      .filter((name) => report.cpu[name] !== null)
      .map((name) => ({ name, points: rates((now) => now.cpu[name] * 100) })),
  memory: () => [
    { name: "resident", points: levels((now) => now.rss_bytes / MIB) },
    { name: "held of the byte budget", points: levels((now) => now.budget_in_use_bytes / MIB) },
  ],
  commits: () => [
    { name: "encode and upload", points: each("flush_seconds") },
    { name: "commit", points: each("commit_seconds") },
  ],
  files: () => [{ name: "active files", points: files() }],
  late: () => [{ name: "latest send", points: levels((now) => now.late_max_ms) }],
};
const LOGARITHMIC = new Set(["window", "lake"]);

function shown(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 10000) return Math.round(value).toLocaleString("en");
  return size >= 100 ? value.toFixed(0) : size >= 1 ? value.toFixed(1) : value.toFixed(2);
}

// Round numbers, four or five of them, that hold everything in between.
function ticks(min, max) {
  const rough = (max - min) / 4 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const found = [];
  for (let at = Math.ceil(min / step) * step; at <= max + step * 1e-9; at += step) found.push(at);
  return found;
}

function powers(min, max) {
  const found = [];
  for (let power = Math.floor(Math.log10(min)); 10 ** power <= max; power++) {
    for (const factor of max / min > 200 ? [1] : [1, 2, 5]) {
      const at = factor * 10 ** power;
      if (at >= min && at <= max) found.push(at);
    }
  }
  return found;
}

function element(parent, name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return parent.appendChild(made);
}

function draw(figure) {
  const id = figure.dataset.plot;
  const series = PLOTS[id]();
  const all = series.flatMap((line) => line.points).filter((point) => point[1] !== null);
  figure.querySelectorAll("svg, .legend, p").forEach((old) => old.remove());
  if (all.length === 0) {
    figure.appendChild(document.createElement("p")).textContent = "nothing was seen";
    return;
  }
  const logarithmic = LOGARITHMIC.has(id);
  const width = figure.clientWidth - 24;
  const [left, right, top, bottom, height] = [54, 8, 8, 22, 210];
  const xMax = Math.max(...all.map((point) => point[0]), 1);
  const values = all.map((point) => point[1]).filter((value) => !logarithmic || value > 0);
  const low = logarithmic ? Math.min(...values, 1e9) / 1.2 : Math.min(0, ...values);
  const high = logarithmic ? Math.max(...values) * 1.2 : Math.max(...values, 1) * 1.05;
  const scale = (value) => (logarithmic ? Math.log(Math.max(value, low)) : value);
  const x = (seconds) => left + (seconds / xMax) * (width - left - right);
  const y = (value) =>
    height - bottom - ((scale(value) - scale(low)) / (scale(high) - scale(low) || 1)) * (height - top - bottom);

  const svg = element(figure, "svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img" });
  for (const at of logarithmic ? powers(low, high) : ticks(low, high)) {
    element(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) });
    element(svg, "text", { x: left - 6, y: y(at) + 4, "text-anchor": "end" }, Number(at.toPrecision(6)).toLocaleString("en"));
  }
  for (const at of ticks(0, xMax)) {
    element(svg, "text", { x: x(at), y: height - 6, "text-anchor": at === 0 ? "start" : "middle" }, shownSeconds(at));
  }
  series.forEach((line, i) => {
    let path = "";
    let pen = false;
    for (const [seconds, value] of line.points) {
      if (value === null) {
        pen = false;
        continue;
      }
      path += `${pen ? "L" : "M"}${x(seconds).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = true;
    }
    element(svg, "path", { class: "curve", d: path, style: `stroke: var(--s${i % 6})`, "stroke-dasharray": i < 6 ? "none" : "5 3" });
  });
  hover(figure, svg, series, { x, left, right, width, height, xMax });
}

const shownSeconds = (at) => `${Number(at.toPrecision(4))} s`;

function hover(figure, svg, series, { x, left, right, width, height, xMax }) {
  const legend = figure.appendChild(document.createElement("div"));
  legend.className = "legend";
  const at = element(svg, "line", { class: "at", y1: 0, y2: height - 22, visibility: "hidden" });
  const label = (seconds) => {
    legend.replaceChildren();
    series.forEach((line, i) => {
      const entry = legend.appendChild(document.createElement("span"));
      entry.appendChild(document.createElement("i")).style.background = `var(--s${i % 6})`;
      const near = seconds === null ? null : nearest(line.points, seconds);
      entry.append(near === null ? line.name : `${line.name} ${shown(near[1])}`);
    });
    if (seconds !== null) legend.append(`at ${seconds.toFixed(1)} s`);
  };
  label(null);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const along = ((event.clientX - box.left) / box.width) * width;
    const seconds = Math.min(Math.max(((along - left) / (width - left - right)) * xMax, 0), xMax);
    at.setAttribute("x1", x(seconds));
    at.setAttribute("x2", x(seconds));
    at.setAttribute("visibility", "visible");
    label(seconds);
  });
  svg.addEventListener("pointerleave", () => {
    at.setAttribute("visibility", "hidden");
    label(null);
  });
}

function nearest(points, seconds) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point[0] - seconds) < Math.abs(best[0] - seconds)) best = point;
  }
  return best;
}

const figures = document.querySelectorAll("figure[data-plot]");
let drawnAt = 0;
function drawAll() {
  if (innerWidth === drawnAt) return;
  drawnAt = innerWidth;
  figures.forEach(draw);
}
addEventListener("resize", drawAll);
drawAll();
