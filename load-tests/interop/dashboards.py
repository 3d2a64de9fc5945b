"""The shipped dashboards, looked at without a Grafana: its own types, what a reader needs to see, and the queries.

Promise: a dashboard passes if TypeScript finds it to be what @grafana/schema declares, panel by panel, options and
field settings included, and if every panel says what it shows, in which unit, under which names.
"""

import importlib.util
import json
import re
import subprocess
import sys

import servers

REPOSITORY = servers.HERE.parents[1]
GRAFANA = REPOSITORY / "infra/grafana"
SCHEMA = servers.HOME / "grafana-schema"

# Types of a panel's options and of its field settings beyond the common ones, by the panel's type.
PANEL_TYPES = {"stat": ("Stat", False), "timeseries": ("TimeSeries", True), "bargauge": ("BarGauge", False), "table": ("Table", True), "geomap": ("Geomap", False)}

# What has a good and a bad side, by a word that is in its queries. Whoever shows it says with colours where the bad side begins.
JUDGED = re.compile(
    "pintail_ready|behind_seconds|retention_headroom|commit_age|rejects:ratio|data_loss|budget_waiting|budget_in_use|follower_lag|maintenance_age|maintenance_failures"
    "|seal_lag|watermark_age|iterator_age|commit_failures|fenced_total|end_to_end|commit_seconds|flush_seconds|late_records|null_partition|folded_total[^[]*.1h|ALERTS"
    "|rate[(]pintail_rejects_total.*pintail_records_read_total")

TYPES = """
type Lit<T> = T extends string ? `${T}` : T extends (infer U)[] ? Lit<U>[] : T extends object ? { [K in keyof T]: Lit<T[K]> } : T;
// What the schema leaves open (options, custom settings, queries) is checked by the types of the panel, not here.
type Open = Omit<Panel, 'options' | 'fieldConfig' | 'targets'> & { options: unknown; fieldConfig: unknown; targets: unknown };
type Whole = Omit<Dashboard, 'panels'> & { panels: Open[] };
type Target = { refId: string; datasource: { type: string; uid: string }; editorMode: 'code'; expr: string; legendFormat: string; instant?: boolean; format?: 'table' };
"""


def load():
    """{name: model} of the dashboards as they are shipped."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}


def stale():
    """Problems: dashboards that are not what generate.py writes."""
    sys.path.insert(0, str(GRAFANA))  # where it finds its panels
    spec = importlib.util.spec_from_file_location("dashboard_generator", GRAFANA / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = {name: generate.text(make()) for name, make in generate.DASHBOARDS.items()}
    shipped = {path.stem: path.read_text(encoding="utf-8") for path in (GRAFANA / "dashboards").glob("*.json")}
    return [f"{name}.json is not what infra/grafana/generate.py writes" for name in made.keys() | shipped.keys() if made.get(name) != shipped.get(name)]


def untyped(dashboards, folder):
    """Problems: what tsc says of the dashboards as values of Grafana's own types."""
    problems = []
    lines = ["import type { Dashboard, Panel, FieldConfig } from '@grafana/schema';"]
    for kind, (name, has_field) in PANEL_TYPES.items():
        what = "Options, FieldConfig" if has_field else "Options"
        renamed = ", ".join(f"{each} as {kind}{each}" for each in what.split(", "))
        lines.append(f"import type {{ {renamed} }} from '@grafana/schema/dist/esm/raw/composable/{kind}/panelcfg/x/{name}PanelCfg_types.gen';")
    lines.append(TYPES)
    for name, model in dashboards.items():
        lines.append(f"const {name}: Lit<Partial<Whole>> = {json.dumps(model)};")
        for panel in model["panels"]:
            value, kind = f"{name}_{panel['id']}", panel["type"]
            if kind not in PANEL_TYPES:
                problems.append(f"{name}: panel type {kind} is not known to this check")
                continue
            defaults = dict(panel["fieldConfig"]["defaults"])
            custom = defaults.pop("custom", {})
            lines.append(f"const {value}_options: Lit<Partial<{kind}Options>> = {json.dumps(panel['options'])};")
            lines.append(f"const {value}_defaults: Lit<FieldConfig> = {json.dumps(defaults)};")
            lines.append(f"const {value}_targets: Target[] = {json.dumps(panel['targets'])};")
            if PANEL_TYPES[kind][1]:
                lines.append(f"const {value}_custom: Lit<Partial<{kind}FieldConfig>> = {json.dumps(custom)};")
    (folder / "dashboards.ts").write_text("\n".join(lines) + "\nexport {};\n", encoding="utf-8")
    settings = {"compilerOptions": {"module": "esnext", "moduleResolution": "bundler", "strict": True, "noEmit": True, "skipLibCheck": True, "types": []},
                "files": ["dashboards.ts"]}
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(SCHEMA / "node_modules")
    done = subprocess.run([modules / ".bin/tsc", "-p", folder], capture_output=True, text=True)
    return problems + [line[:400] for line in done.stdout.splitlines() if line.strip()] + ([done.stderr] if done.stderr else [])


def unclear(dashboards):
    """Problems: panels that leave a reader guessing, and variables that nothing uses."""
    problems = []
    for name, model in dashboards.items():
        spots, text = set(), json.dumps(model)
        for panel in model["panels"]:
            where, defaults = f"{name}: {panel['title'] or panel['id']}", panel["fieldConfig"]["defaults"]
            problems += [f"{where} has no {what}" for what in ("title", "description") if not panel[what].strip()]
            problems += [f"{where} has no unit"] * (not defaults.get("unit")) + [f"{where} has no thresholds"] * (not defaults.get("thresholds"))
            problems += [f"{where}: {target['refId']} has no legend" for target in panel["targets"] if not target["legendFormat"].strip()]
            legends = [target["legendFormat"] for target in panel["targets"]]
            problems += [f"{where} has two queries under one name"] * (len(set(legends)) < len(legends))
            at = panel["gridPos"]
            covered = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            problems += [f"{where} covers another panel"] * bool(spots & covered)
            spots |= covered
        for variable in model["templating"]["list"]:
            problems += [f"{name}: nothing uses ${variable['name']}"] * (not re.search(rf"\$(?:{{{variable['name']}}}|{variable['name']}\b)", text))
    return problems


def uncoloured(dashboards, rules):
    """Problems: panels and columns of what has a bad side that do not say where it begins, or not where an alert says so."""
    problems, judged, limits = [], 0, _limits(rules)
    for name, model in dashboards.items():
        for panel in model["panels"]:
            for target in (target for target in panel["targets"] if JUDGED.search(target["expr"])):
                judged += 1
                where, steps = f"{name}: {panel['title']} ({target['legendFormat']})", _steps(panel, target)
                values = [step["value"] for step in steps]
                if len({step["color"] for step in steps}) < 2 or values[0] is not None or values[1:] != sorted(set(values[1:])):
                    problems.append(f"{where} has no thresholds but {steps}")
                problems += [f"{where} has no threshold at {limit}, where an alert begins" for metric, limit in limits.items()
                             if re.search(rf"{metric}(?![\w:])", target["expr"]) and limit not in values[1:]]
                style = panel["fieldConfig"]["defaults"].get("custom", {}).get("thresholdsStyle", {}).get("mode")
                problems += [f"{where} does not draw its thresholds"] * (panel["type"] == "timeseries" and style == "off")
    return problems + ["nothing was judged"] * (judged == 0)


def _limits(rules):
    """{metric: number} of the alerts that compare a metric with a number of their own; an alert on more than none begins at one."""
    limits = dict(re.findall(r"^\s*expr: ([\w:]+) [<>] ([\d.]+)$", rules, re.MULTILINE))
    return {metric: float(limit) or 1 for metric, limit in limits.items()}


def _steps(panel, target):
    """The thresholds that colour a query's numbers: those of its column, of its series or of the panel."""
    for override in panel["fieldConfig"]["overrides"]:
        if panel["type"] == "table" and override["matcher"]["options"] == target["legendFormat"]:
            return next(each["value"] for each in override["properties"] if each["id"] == "thresholds")["steps"]
    return panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


def queries(dashboards):
    """(where, PromQL, whether it asks for one moment) of every target, with Grafana's variables filled in."""
    filled = {"$__rate_interval": "30s", **{f"${name}": ".*" for name in ("pipeline", "instance", "stream", "shard", "table")}}
    for name, model in dashboards.items():
        for panel in model["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for variable, value in filled.items():
                    expression = expression.replace(variable, value)
                assert "$" not in expression, expression
                yield f"{name}: {panel['title']} ({target['legendFormat']})", expression, target.get("instant", False)


def choices(dashboards):
    """(where, label, matcher) of every variable that offers the values of a label."""
    for name, model in dashboards.items():
        for variable in model["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
                yield f"{name}: ${variable['name']}", label, re.sub(r"\$\w+", ".*", series)
