#!/usr/bin/env python3
"""Writes dashboards/*.json. Change the dashboards here and run this; the interop tests refuse a dashboard that is not its own output.

    infra/grafana/generate.py
"""

import json
from pathlib import Path

from panels import GREEN, RED, YELLOW, bars, countries, dashboard, lines, stat, steps, table, variable

FOLDER = Path(__file__).resolve().parent / "dashboards"

PIPELINE = variable("pipeline", "Pipeline", "label_values(pintail_build_info, pipeline)")
INSTANCE = variable("instance", "Instance", 'label_values(pintail_build_info{pipeline=~"$pipeline"}, instance)')
STREAM = variable("stream", "Stream", 'label_values(pintail_ready{instance=~"$instance"}, stream)')
HERE = 'instance=~"$instance"'
OURS = f'{HERE}, stream=~"$stream"'

AGE = steps((None, GREEN), (30, YELLOW), (60, RED))
HEADROOM = steps((None, RED), (0.25, YELLOW), (0.5, GREEN))
REJECTS = steps((None, GREEN), (0.005, YELLOW), (0.01, RED))
ANY = steps((None, GREEN), (1, RED))
SOME = steps((None, GREEN), (1, YELLOW))
COMMIT_AGE = steps((None, GREEN), (120, YELLOW), (300, RED))
COMMIT_TIME = steps((None, GREEN), (5, YELLOW), (30, RED))  # beyond the shipped flush interval a commit is the brake
FULL_OF_RECORDS = steps((None, GREEN), (900, YELLOW))        # of what a shard takes: 1,000 a second
FULL_OF_BYTES = steps((None, GREEN), (900_000, YELLOW))      # and 1 MB
SEAL_LAG = steps((None, GREEN), (300, YELLOW), (900, RED))


def rate(metric, by, where=""):
    return f"sum by ({by}) (rate({metric}{{{OURS}{where}}}[$__rate_interval]))"


def increase(metric, by, where=""):
    return f"sum by ({by}) (increase({metric}{{{OURS}{where}}}[$__rate_interval]))"


def seen(metric, by):
    """Of what each process counts that looks: not their sum."""
    return f"max by ({by}) (increase({metric}{{{OURS}}}[$__rate_interval]))"


def quantile(q, metric, by="stream"):
    return f"histogram_quantile({q}, sum by (le, {by}) (rate({metric}_bucket{{{OURS}}}[$__rate_interval])))"


def overview():
    ready = [{"type": "value", "options": {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "index": 1}}}]
    return dashboard("overview", "Overview", "Is it fine? Every number green: yes.", [PIPELINE, INSTANCE, STREAM], [
        (4, [
            stat("Ready", "Whether every stream reads and commits. If not, /readyz names the trouble.", f"min(pintail_ready{{{OURS}}})", "none",
                 steps((None, RED), (1, GREEN)), ready),
            stat("Behind", "How far the slowest shard is behind the newest record (MillisBehindLatest).", f"max(stream:pintail_behind_seconds:max{{{OURS}}})", "s", AGE),
            stat("Retention left", "Of the worst shard: the part of the retention that is left before unread records are trimmed.",
                 f"min(stream:pintail_retention_headroom:min{{{OURS}}})", "percentunit", HEADROOM),
            stat("Last commit", "The longest time since a commit, of all streams. An idle stream commits once a minute or less.",
                 f"max(stream:pintail_commit_age_seconds{{{OURS}}})", "s", COMMIT_AGE),
            stat("Rejects", "Records of the last five minutes that could not be cleaned. Nothing is lost: they are in the rejects tables.",
                 f"sum(rate(pintail_rejects_total{{{OURS}}}[5m])) / (sum(rate(pintail_records_read_total{{{OURS}}}[5m])) > 0)", "percentunit", REJECTS),
            stat("Ranges lost in 24 h", "Ranges that were trimmed before they were read. The log and /readyz have their numbers and times.",
                 f"sum(increase(pintail_data_loss_total{{{OURS}}}[24h]))", "none", ANY),
            stat("Memory waits", "Readers that wait for the byte budget now. Now and then is fine: it is how a slow lake slows the reads.",
                 f"sum(pintail_budget_waiting_readers{{{OURS}}})", "none", steps((None, GREEN), (1, YELLOW), (10, RED))),
            stat("Alerts", "Pintail's alerts that fire now.", 'count(ALERTS{alertname=~"Pintail.+", alertstate="firing"}) or vector(0)', "none", ANY),
        ]),
        (9, [
            lines("Records read", "Records a second by stream, those in aggregates one by one.", "cps", (rate("pintail_records_read_total", "stream"), "{{stream}}"), stacked=True),
            lines("From Kinesis to the table", "Arrival at Kinesis to commit in Delta, of the oldest record of each batch.", "s",
                  (quantile(0.5, "pintail_end_to_end_seconds"), "{{stream}} p50"), (quantile(0.99, "pintail_end_to_end_seconds"), "{{stream}} p99"), thresholds=AGE),
            lines("Behind", "MillisBehindLatest of the slowest shard of each stream.", "s", (f"stream:pintail_behind_seconds:max{{{OURS}}}", "{{stream}}"), thresholds=AGE),
        ]),
        (9, [
            lines("Share of rejects", "Of what was read in five minutes. Beyond 1 % for five minutes is an alert; while nothing is read there is no share.", "percentunit",
                  (f"stream:pintail_rejects:ratio_rate5m{{{OURS}}}", "{{stream}}"), thresholds=REJECTS),
            lines("Rejects by reason", "Records a second that became rejects.", "cps", (rate("pintail_rejects_total", "reason") + " > 0", "{{reason}}"), stacked=True),
            lines("Values set to null", "Values a second that cleaning could not use, by column and reason: the ten most frequent.", "cps",
                  ("topk(10, " + rate("pintail_nulls_total", "stream, column, reason") + ")", "{{stream}}.{{column}} {{reason}}")),
            lines("Repairs", "Transport damage a second that was undone before cleaning.", "cps", (rate("pintail_repairs_total", "stream, repair"), "{{stream}} {{repair}}")),
        ]),
        (9, [
            lines("Byte budget in use", "Part of each stream's share that is held by what is read and not committed.", "percentunit",
                  (f"stream:pintail_budget_in_use:ratio{{{OURS}}}", "{{stream}}"), thresholds=steps((None, GREEN), (0.9, YELLOW)), high=1),
            lines("Memory of the process", "Resident memory, what of it is in use, and what the live windows hold of that.", "bytes",
                  (f"process_resident_memory_bytes{{job=\"pintail\", {HERE}}}", "{{instance}} resident"),
                  (f"pintail_allocated_bytes{{{HERE}}}", "{{instance}} in use"),
                  (f"sum by (instance) (pintail_live_bytes{{{HERE}}})", "{{instance}} live windows")),
            lines("Processor time", "Cores in use.", "none", (f"rate(process_cpu_seconds_total{{job=\"pintail\", {HERE}}}[$__rate_interval])", "{{instance}}")),
        ]),
    ])


def shards():
    shard = variable("shard", "Shard", f"label_values(pintail_behind_seconds{{{OURS}}}, shard)")
    ours = f'{OURS}, shard=~"$shard"'
    here = ', shard=~"$shard"'
    return dashboard("shards", "Shards", "Which shard is the slow one, and why.", [PIPELINE, INSTANCE, STREAM, shard], [
        (9, [
            table("Shards", "Every shard of this process, slowest first.", ["instance", "stream", "shard"], [
                (f"pintail_behind_seconds{{{ours}}}", "Behind", "s", AGE),
                (f"pintail_retention_headroom_ratio{{{ours}}}", "Retention left", "percentunit", HEADROOM),
                (f"sum without (result) (rate(pintail_reads_total{{{ours}}}[$__rate_interval]))", "Reads a second", "reqps", steps((None, GREEN), (5, YELLOW))),
                (f"rate(pintail_records_read_total{{{ours}}}[$__rate_interval])", "Records a second", "cps", FULL_OF_RECORDS),
                (f"rate(pintail_bytes_read_total{{{ours}}}[$__rate_interval])", "Bytes a second", "Bps", FULL_OF_BYTES),
            ], width=16),
            lines("Shards by state", "waiting: for their parents. parked: fenced or odd. lost: no longer listed, never ended.", "none",
                  (f"sum by (state) (pintail_shards{{{OURS}}})", "{{state}}"), stacked=True, width=8),
        ]),
        (9, [
            lines("Behind", "MillisBehindLatest of the last read.", "s", (f"pintail_behind_seconds{{{ours}}}", "{{stream}} {{shard}}"), thresholds=AGE),
            lines("Age of the last record", "Now minus its arrival at Kinesis, when it was read. High and not behind: nobody posts.", "s",
                  (f"pintail_record_age_seconds{{{ours}}}", "{{stream}} {{shard}}")),
            lines("Retention left", "1 is all of it. Below a quarter it is time to act.", "percentunit",
                  (f"pintail_retention_headroom_ratio{{{ours}}}", "{{stream}} {{shard}}"), thresholds=HEADROOM, high=1),
        ]),
        (9, [
            lines("Records", "Records read a second. A shard takes 1,000 a second.", "cps", (rate("pintail_records_read_total", "stream, shard", here), "{{stream}} {{shard}}"), thresholds=FULL_OF_RECORDS),
            lines("Bytes", "Payload bytes read a second. A shard takes 1 MB a second and gives 2.", "Bps",
                  (rate("pintail_bytes_read_total", "stream, shard", here), "{{stream}} {{shard}}"), thresholds=FULL_OF_BYTES),
            lines("Reads by result", "GetRecords calls a second. throttled: other consumers share the shard's five.", "reqps",
                  (rate("pintail_reads_total", "result", here), "{{result}}"), stacked=True),
        ]),
        (9, [
            lines("Waiting for memory", "Readers that wait for the byte budget, and how long the slowest waits took.", "none",
                  (f"sum by (stream) (pintail_budget_waiting_readers{{{OURS}}})", "{{stream}} readers"), (quantile(0.99, "pintail_budget_wait_seconds"), "{{stream}} p99"), thresholds=SOME, right="s"),
            lines("Age of the iterators", "Kinesis expires them at 300 s; Pintail renews them before.", "s", (f"pintail_iterator_age_seconds{{{ours}}}", "{{stream}} {{shard}}"),
                  thresholds=steps((None, GREEN), (300, RED))),
            lines("Aggregates, and read again", "Aggregated (KPL) records a second, and records in them that belong to another shard. Read again: those before them inflated to all that a read may have.", "cps",
                  (rate("pintail_records_read_again_total", "stream", here), "{{stream}} read again"),
                  (rate("pintail_aggregates_read_total", "stream", here), "{{stream}} aggregates"), (rate("pintail_foreign_records_total", "stream, action"), "{{stream}} foreign {{action}}")),
        ]),
    ])


def lake():
    table_of = variable("table", "Table", f"label_values(pintail_rows_committed_total{{{OURS}}}, table)")
    ours = f'{OURS}, table=~"$table"'
    here = ', table=~"$table"'
    return dashboard("lake", "Lake", "Is the lake keeping up, and are the tables in shape?", [PIPELINE, INSTANCE, STREAM, table_of], [
        (9, [
            lines("Commits", "Commits of the rows tables a minute.", "cpm", ("60 * " + rate("pintail_commits_total", "stream"), "{{stream}}")),
            lines("Time of a commit", "One commit of the rows table, retries included.", "s", (quantile(0.5, "pintail_commit_seconds"), "{{stream}} p50"),
                  (quantile(0.99, "pintail_commit_seconds"), "{{stream}} p99"), thresholds=COMMIT_TIME),
            lines("Time of a flush", "Encoding and uploading one micro-batch.", "s", (quantile(0.5, "pintail_flush_seconds"), "{{stream}} p50"),
                  (quantile(0.99, "pintail_flush_seconds"), "{{stream}} p99"), thresholds=COMMIT_TIME),
        ]),
        (9, [
            lines("Since the last commit", "Beside ten flush intervals: beyond that, while records arrive, is an alert.", "s",
                  (f"stream:pintail_commit_age_seconds{{{OURS}}}", "{{stream}}"), (f"10 * max(pintail_flush_interval_seconds{{{OURS}}})", "limit"), thresholds=COMMIT_AGE),
            lines("Trouble", "Attempts that failed and are repeated, versions lost to other writers and rebased, shards taken by another process.", "none",
                  (increase("pintail_commit_failures_total", "stream"), "{{stream}} failures"), (increase("pintail_commit_conflicts_total", "stream"), "{{stream}} conflicts"),
                  (increase("pintail_fenced_total", "stream"), "{{stream}} fenced"), thresholds=SOME),
            lines("Tables behind their rows", "Versions of the rows table that a following table has not applied yet. Goes back to 0 at once, or somebody must look.", "none",
                  (f"pintail_follower_lag_versions{{{ours}}}", "{{table}}"), thresholds=steps((None, GREEN), (1, YELLOW), (60, RED))),
        ]),
        (9, [
            lines("Rows committed", "Rows a second by table.", "cps", (rate("pintail_rows_committed_total", "table", here), "{{table}}"), stacked=True),
            lines("Bytes committed", "Bytes of Parquet a second by table.", "Bps", (rate("pintail_bytes_committed_total", "table", here), "{{table}}"), stacked=True),
            lines("Bytes a file", "Average size of the files of the last minutes. Compaction makes larger ones of them.", "bytes",
                  (rate("pintail_bytes_committed_total", "table", here) + " / (" + rate("pintail_files_committed_total", "table", here) + " > 0)", "{{table}}")),
        ]),
        (9, [
            lines("Since maintenance worked", "Time since the last look at a table without a failure.", "s", (f"table:pintail_maintenance_age_seconds{{{ours}}}", "{{table}}"),
                  thresholds=steps((None, GREEN), (900, YELLOW), (1800, RED))),
            lines("Looks at tables", "By result. absent: there is no such table yet.", "none", (increase("pintail_maintenance_rounds_total", "result", here), "{{result}}"), stacked=True),
            lines("Steps that failed", "They are tried again at the next look.", "none", (increase("pintail_maintenance_failures_total", "table, step", here), "{{table}} {{step}}"), thresholds=SOME),
        ]),
        (9, [
            lines("Watermark", "How far behind now it is, committed: the event time up to which all open shards have come. Sealing waits for it.", "s",
                  (f"stream:pintail_watermark_age_seconds{{{OURS}}}", "{{stream}}"), thresholds=SEAL_LAG),
            lines("Sealed behind", "How long ago the window after the last sealed one was over. 0 is as it should be; after a gap without records it is as long as that for a moment.", "s",
                  (f"window:pintail_seal_lag_seconds{{{OURS}}}", "{{window}}"), thresholds=SEAL_LAG),
            lines("Late records", "Records that came after their window was sealed. They are in the partials, and in the next revision where there is one; too late, if the partials of their window are not kept any more. Each process that seals counts all of them: of several, this is the largest.", "none",
                  (seen("pintail_late_records_total", "stream, window"), "{{window}}"),
                  (seen("pintail_too_late_records_total", "stream, window"), "{{window}} too late"), thresholds=SOME),
        ]),
        (9, [
            lines("Compaction", "Files replaced (in) and written (out).", "none", (increase("pintail_files_compacted_total", "direction", here), "{{direction}}"),
                  (increase("pintail_compactions_overtaken_total", "stream", here), "{{stream}} given up")),
            lines("Clean-up", "Log checkpoints written, log objects and data files deleted.", "none", (increase("pintail_log_checkpoints_total", "stream", here), "{{stream}} checkpoints"),
                  (increase("pintail_log_objects_deleted_total", "stream", here), "{{stream}} log objects"), (increase("pintail_files_vacuumed_total", "stream", here), "{{stream}} files")),
            lines("Rows without a day", "Rows beyond 32 days in one commit: event times that make no sense.", "none", (increase("pintail_rows_in_null_partition_total", "stream"), "{{stream}}"), thresholds=SOME),
        ]),
    ])


def windows():
    def value(window, measure, state="complete", which=""):
        return f'sum by (key) (pintail_window_value{{{HERE}, window="{window}", measure="{measure}", state="{state}"{which}}})'

    def named(window, measure):
        return value(window, measure, which=', key!~"__other__|[(]null[)]"')

    minute = "Each point is a whole minute: the last one whose end and grace are past."
    running = "The minute that is being counted; starts anew every minute."
    return dashboard("windows", "Pins live", "The windows of the shipped contracts, a minute at a time. __other__ is all keys beyond `[serve] window_series_max`.",
                     [PIPELINE, INSTANCE], [
        (4, [
            stat("Behind", "How far the slowest shard is behind. What it has not read yet is missing in the numbers below: a minute is shown when its time is over, not when all of it was read.",
                 f"max(stream:pintail_behind_seconds:max{{{HERE}}})", "s", AGE),
            stat("Rejects", "Records of the last five minutes that could not be cleaned, and so are in no window.",
                 f"sum(rate(pintail_rejects_total{{{HERE}}}[5m])) / (sum(rate(pintail_records_read_total{{{HERE}}}[5m])) > 0)", "percentunit", REJECTS),
            stat("Late in 1 h", "Records that came after their window was sealed: they are in the live numbers, not in the sealed row.",
                 f"sum(increase(pintail_late_records_total{{{HERE}}}[1h]))", "none", SOME),
            stat("Keys folded in 1 h", "Keys that show as __other__ because memory was short, not because of `window_series_max`. Nothing of that is in the tables.",
                 f"sum(increase(pintail_live_cells_folded_total{{{HERE}}}[1h]))", "none", SOME),
        ]),
        (9, [
            lines("Pins by category", f"Pins a minute. {minute}", "none", (value("pins_by_category", "pins"), "{{key}}"), stacked=True, stepped=True, width=16),
            bars("Pins this minute", running, "none", "sort_desc(" + value("pins_by_category", "pins", "running") + ")", "{{key}}", width=8),
        ]),
        (12, [
            countries("Posts by country", "Posts of the last whole minute, where they were posted. Countries by their English names; names that Grafana's list does not have are only in the bars.",
                      named("posts_by_country", "posts"), width=16),
            bars("Countries", "Posts of the last whole minute: the twenty largest.", "none", "sort_desc(topk(20, " + named("posts_by_country", "posts") + "))", "{{key}}", width=8),
        ]),
        (9, [
            lines("Users by age group", f"Users a minute. (null): younger than 18, or no age. {minute}", "none", (value("users_by_age_group", "users"), "{{key}}"), stacked=True, stepped=True),
            bars("Age groups this minute", running, "none", value("users_by_age_group", "users", "running"), "{{key}}"),
            bars("Users by year joined", "Users of the last whole minute.", "none", value("users_by_year_joined", "users"), "{{key}}"),
        ]),
        (9, [
            lines("Median followers by category", f"Of the posters of a minute's pins: half have fewer. Estimated (KLL). {minute}", "short",
                  (named("pins_by_category", "follower_count_p50"), "{{key}}"), stepped=True),
            lines("Posters by category", f"How many different ones. Estimated (HLL). {minute}", "short", (named("pins_by_category", "posters"), "{{key}}"), stepped=True),
            lines("Pins by kind", f"Images, videos and stories a minute. {minute}", "none", (value("pins_by_media_type", "pins"), "{{key}}"), stacked=True, stepped=True),
        ]),
        (9, [
            lines("Records in windows", f"Of all keys. {minute}", "none", (f'sum by (window) (pintail_window_records{{{HERE}, state="complete"}})', "{{window}}"), stepped=True),
            lines("Keys in windows", f"How many different keys. {minute}", "none", (f'sum by (window) (pintail_window_keys{{{HERE}, state="complete"}})', "{{window}}"), stepped=True),
            lines("Windows in memory", "Cells by layer, and keys that show as __other__ because memory was short (nothing of that is in the tables).", "none",
                  (f"sum by (stream, layer) (pintail_live_cells{{{HERE}}})", "{{stream}} {{layer}}"),
                  (f"sum by (stream) (increase(pintail_live_cells_folded_total{{{HERE}}}[$__rate_interval]))", "{{stream}} folded")),
        ]),
    ])


def text(model):
    """One line a panel, so that a change shows as the panel that changed."""
    panels = ",\n  ".join(json.dumps(panel, ensure_ascii=False) for panel in model["panels"])
    rest = {**model, "panels": ["PANELS"]}
    return json.dumps(rest, ensure_ascii=False, indent=1).replace('"PANELS"', panels) + "\n"


DASHBOARDS = {"overview": overview, "shards": shards, "lake": lake, "windows": windows}

if __name__ == "__main__":
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(text(make()), encoding="utf-8")
