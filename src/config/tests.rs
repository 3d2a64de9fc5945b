//! What a user gets wrong, and what they are told.

use super::*;
use crate::lake::MaintenanceOptions;
use crate::toml_doc::FromToml;

const CONTRACT: &str = "table = \"a\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\nrequired = true\n";

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), CONTRACT).unwrap();
    let file = folder.path().join("pintail.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let shown = format!("{}/", folder.path().display());
    Config::load(&file, environment)
        .map_err(|invalid| invalid.problems().iter().map(|problem| problem.replace(&shown, "")).collect())
}

const SMALL: &str = "pipeline = \"p\"\n[lake]\nuri = \"/lake\"\n[[stream]]\nname = \"s\"\ncontract = \"a.toml\"\n";

#[test]
fn defaults_are_what_the_documentation_says() {
    let config = load(SMALL, &[]).unwrap();
    assert_eq!(config.lake.flush.flush_interval, Duration::from_secs(5));
    assert_eq!((config.lake.flush.flush_bytes, config.budget_bytes), (32 << 20, 256 << 20));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.window_series_max, 50);
    assert_eq!((config.source.reads_per_second, config.source.align_within), (4.0, Duration::from_secs(600)));
    assert!(config.maintenance.enabled);
    assert_eq!(config.maintenance.interval, Duration::from_secs(60));
    let expected = MaintenanceOptions { checkpoint_commits: 100, compact_files: 16, target_file_bytes: 128 << 20 };
    assert_eq!(config.maintenance.options, expected);
    assert_eq!((config.streams[0].start, config.source.on_data_loss), (StartPosition::TrimHorizon, OnDataLoss::Fail));
}

#[test]
fn streams_that_are_none_are_told_once() {
    let head = "pipeline = \"p\"\n";
    let tail = "[lake]\nuri = \"/lake\"\n";
    for (stream, expected) in [
        ("", "pintail.toml:1: no stream; expected [[stream]] with `name` and `contract` at least once"),
        ("stream = []\n", "pintail.toml:1: no stream; expected [[stream]] with `name` and `contract` at least once"),
        ("stream = { name = \"s\" }\n", "pintail.toml:2: `stream` must be tables: [[stream]] once for each"),
    ] {
        assert_eq!(load(&format!("{head}{stream}{tail}"), &[]).unwrap_err(), [expected]);
    }
}

#[test]
fn everything_wrong_is_said_at_once_with_file_and_line() {
    let text = "pipeline = \"a/b\"\n[lake]\nuri = \"gs://x\"\nflush_interval = \"1ms\"\n[source]\nstart = \"oldest\"\n\
                reads_per_second = 9\nalign_within = \"1ms\"\n[serve]\nlisten = \"9464\"\nwindow_series_max = 5000\n[[stream]]\ncontract = \"missing.toml\"\n[budgets]\n";
    let problems = load(text, &[]).unwrap_err();
    let starts = [
        "pintail.toml:1: `pipeline` = \"a/b\"",
        "pintail.toml:4: `lake.flush_interval` = \"1ms\"; expected \"100ms\" to \"1h\"",
        "pintail.toml:3: `lake.uri` = \"gs://x\"",
        "pintail.toml:6: `source.start` = \"oldest\"",
        "pintail.toml:7: `source.reads_per_second` = 9",
        "pintail.toml:8: `source.align_within` = \"1ms\"",
        "pintail.toml:10: `serve.listen` = \"9464\"",
        "pintail.toml:11: `serve.window_series_max` = 5000",
        "pintail.toml:12: a stream needs `name` or `arn`",
        "pintail.toml:13: contract \"missing.toml\": cannot be read: No such file",
        "pintail.toml:14: unknown key `budgets`; did you mean `budget`?",
    ];
    for start in starts {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} not in {problems:#?}");
    }
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn a_mistyped_address_of_s3_is_no_folder() {
    for (uri, is_taken) in [("s3//b/p", false), ("s3:/b/p", false), ("s3:b", false), ("./s3:b", true), ("s3/b", true)] {
        let problems = load(&format!("[lake]\nuri = {uri:?}\n"), &[]).unwrap_err();
        let told = format!("pintail.toml:2: `lake.uri` = {uri:?}; expected s3://bucket/prefix");
        assert_eq!(problems.iter().any(|problem| problem.starts_with(&told)), !is_taken, "{problems:#?}");
    }
    let problems = load("[lake]\nurl = \"x\"\n", &[]).unwrap_err();
    assert!(problems.iter().any(|problem| problem.contains("did you mean `uri`?")), "{problems:#?}");
}

#[test]
fn maintenance_that_cannot_be_meant_is_refused() {
    let text = format!(
        "{SMALL}[maintenance]\ninterval = \"50ms\"\ncheckpoint_commits = 0\ncompact_files = 1\n\
         target_file_bytes = \"1KiB\"\nenable = true\n"
    );
    let problems = load(&text, &[]).unwrap_err();
    let starts = [
        "pintail.toml:8: `maintenance.interval` = \"50ms\"",
        "pintail.toml:9: `maintenance.checkpoint_commits` = 0",
        "pintail.toml:10: `maintenance.compact_files` = 1",
        "pintail.toml:11: `maintenance.target_file_bytes` = 1024 bytes",
        "pintail.toml:12: unknown key `maintenance.enable`; did you mean `enabled`?",
    ];
    for start in starts {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} not in {problems:#?}");
    }
    let text = format!("{SMALL}[maintenance]\nenabled = false\ninterval = \"200ms\"\ncompact_files = 2\n");
    let maintenance = load(&text, &[]).unwrap().maintenance;
    assert!(!maintenance.enabled);
    assert_eq!((maintenance.interval, maintenance.options.compact_files), (Duration::from_millis(200), 2));
}

#[test]
fn the_environment_overrides_and_a_misspelt_variable_is_refused() {
    let config = load(SMALL, &[("PINTAIL__LAKE__FLUSH_INTERVAL", "2s"), ("PATH", "/bin")]).unwrap();
    assert_eq!(config.lake.flush.flush_interval, Duration::from_secs(2));
    let problems = load(SMALL, &[("PINTAIL__LAKE__FLUSH_INTERVALL", "2s")]).unwrap_err();
    assert!(problems[0].contains("PINTAIL__LAKE__FLUSH_INTERVALL: stands for no key"), "{problems:?}");
}

#[test]
fn an_empty_text_is_no_default_wherever_it_comes_from() {
    let text = "pipeline = \"p\"\n[lake]\nuri = \"\"\nregion = \" \"\n[aws]\nregion = \"\"\nendpoint = \"\"\n\
                [serve]\ntoken_file = \"\"\n[[stream]]\nname = \"\"\ncontract = \"\"\n";
    let problems = load(text, &[("PINTAIL__LAKE__ENDPOINT", ""), ("PINTAIL__SERVE__TOKEN", "")]).unwrap_err();
    let mend = "; expected a text in quotes that is not empty (what is not to be set is left out)";
    let expected = [
        "pintail.toml:3: `lake.uri` = \"\"",
        "pintail.toml:4: `lake.region` = \" \"",
        "environment variable PINTAIL__LAKE__ENDPOINT: `lake.endpoint` = \"\"",
        "pintail.toml:6: `aws.region` = \"\"",
        "pintail.toml:7: `aws.endpoint` = \"\"",
        "pintail.toml:9: `serve.token_file` = \"\"",
        "pintail.toml:11: `stream.name` = \"\"",
        "pintail.toml:12: `stream.contract` = \"\"",
    ];
    for problem in expected.map(|problem| format!("{problem}{mend}")) {
        assert!(problems.contains(&problem), "{problem} not in {problems:#?}");
    }
    let token = "environment variable PINTAIL__SERVE__TOKEN: the token cannot be used; expected 16 to 256";
    assert!(problems.iter().any(|problem| problem.starts_with(token)), "{problems:#?}");
    assert_eq!(problems.len(), expected.len() + 1, "{problems:#?}");
}

#[test]
fn an_endpoint_with_a_secret_in_it_is_refused_and_not_repeated() {
    for endpoint in ["http://user:s3cr3t@host:1", "http://user:s3cr3t@[bad:1", "http://host/?token=s3cr3t", "s3cr3t@h"]
    {
        let problems = load(SMALL, &[("PINTAIL__AWS__ENDPOINT", endpoint)]).unwrap_err();
        assert!(problems[0].contains("has more in it than an address"), "{problems:?}");
        assert!(!problems[0].contains("s3cr3t"), "{problems:?}");
    }
    for uri in ["s3://user:s3cr3t@b/x", "s3://user:s3cr3t/y@b/x", "https://user:s3cr3t@b/x"] {
        let problems = load(SMALL, &[("PINTAIL__LAKE__URI", uri)]).unwrap_err();
        assert!(problems[0].contains("has a user, a password or a port"), "{problems:?}");
        assert!(!problems.concat().contains("s3cr3t"), "{problems:?}");
    }
}

#[test]
fn a_prefix_that_others_would_spell_otherwise_is_refused() {
    for prefix in ["x?y", "x#y", "x%20y", "l\u{e4}ke", "a//b", "a/../b", "a*", "a\tb"] {
        let problems = load(SMALL, &[("PINTAIL__LAKE__URI", &format!("s3://b/{prefix}"))]).unwrap_err();
        assert!(problems[0].contains("expected what every engine spells alike"), "{problems:?}");
    }
    for uri in ["s3://", "s3:///x"] {
        let problems = load(SMALL, &[("PINTAIL__LAKE__URI", uri)]).unwrap_err();
        assert!(problems[0].contains("names no bucket"), "{problems:?}");
    }
    let problems = load(SMALL, &[("PINTAIL__AWS__ENDPOINT", "http://127.0.0.1:/")]).unwrap_err();
    assert!(problems[0].contains("expected http://host:port"), "{problems:?}");
    for uri in ["s3://b", "s3://b/", "s3://b/my lake/x=1_(2)/", "s3://b/x"] {
        assert!(load(SMALL, &[("PINTAIL__LAKE__URI", uri)]).is_ok(), "{uri}");
    }
}

#[test]
fn what_is_not_text_in_the_environment_is_told_by_its_name() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    let told = readable((bytes(b"PINTAIL__AWS__REGION"), bytes(b"\xe9u"))).unwrap_err().to_string();
    assert_eq!(told, "environment variable PINTAIL__AWS__REGION: its name or its value is not UTF-8");
    assert!(readable((bytes(b"PINTAIL__\xe9"), bytes(b"x"))).is_err());
}

#[test]
fn a_budget_that_a_stream_could_starve_in_is_refused() {
    let problems = load(SMALL, &[("PINTAIL__BUDGET__BYTES", "81MiB")]).unwrap_err();
    assert!(problems[0].contains("expected at least 82MiB"), "{problems:?}");
    assert!(load(SMALL, &[("PINTAIL__BUDGET__BYTES", "82MiB")]).is_ok());
}

#[test]
fn a_budget_that_cannot_be_read_is_not_taken_for_the_default() {
    // Four streams would be too many for that.
    let streams: String =
        ('b'..='d').map(|name| format!("[[stream]]\nname = \"{name}\"\ncontract = \"a.toml\"\n")).collect();
    let of_budget = |bytes: &str| {
        let problems = load(&format!("{SMALL}{streams}"), &[("PINTAIL__BUDGET__BYTES", bytes)]).unwrap_err();
        problems.into_iter().filter(|problem| problem.contains("udget")).collect::<Vec<_>>()
    };
    let unreadable = of_budget("410 megs");
    assert!(unreadable.len() == 1 && unreadable[0].contains("410 megs"), "{unreadable:?}");
    assert!(of_budget("256MiB")[0].contains("expected at least 328MiB"));
}

#[test]
fn two_streams_cannot_share_a_name_or_a_table() {
    let text = format!("{SMALL}[[stream]]\nname = \"s\"\ncontract = \"a.toml\"\n");
    let problems = load(&text, &[]).unwrap_err();
    assert_eq!(problems.len(), 3, "stream s, table a, table a_rejects: {problems:#?}");
}

#[test]
fn the_budget_and_names_taken_twice_are_told_together_with_everything_else() {
    let text = "pipeline = \"a/b\"\n[lake]\n[budget]\nbytes = \"100MiB\"\n\
                [[stream]]\nname = \"s\"\ncontract = \"missing.toml\"\n\
                [[stream]]\nname = \"s\"\ncontract = \"a.toml\"\n[[stream]]\ncontract = \"a.toml\"\n";
    let problems = load(text, &[]).unwrap_err();
    let starts = [
        "pintail.toml:1: `pipeline` = \"a/b\"",
        "pintail.toml:2: `lake.uri` is missing",
        "pintail.toml:4: `budget.bytes` = 100MiB gives each of 3 streams 33MiB; expected at least 246MiB",
        "pintail.toml:7: contract \"missing.toml\": cannot be read",
        "pintail.toml:9: stream s is already taken by stream s (missing.toml)",
        "pintail.toml:11: a stream needs `name` or `arn`",
        "pintail.toml:11: table a is already taken by stream s (a.toml)",
        "pintail.toml:11: table a_rejects is already taken by stream s (a.toml)",
    ];
    for start in starts {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} not in {problems:#?}");
    }
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn a_start_is_a_word_or_a_time_with_its_zone() {
    assert_eq!(StartPosition::from_text("2026-01-31T08:00:00+01:00"), Some(StartPosition::At(1_769_842_800_000)));
    for text in ["2026-01-31", "2026-01-31T08:00:00", "1769842800", "1970-01-01T00:00:00Z", ""] {
        assert_eq!(StartPosition::from_text(text), None, "{text}");
    }
}

#[test]
fn foreign_records_are_kept_unless_the_source_or_the_stream_says_otherwise() {
    let policies = |text: &str| -> Vec<ForeignRecords> {
        load(text, &[]).unwrap().streams.iter().map(|stream| stream.foreign_records).collect()
    };
    assert_eq!(policies(SMALL), [ForeignRecords::Keep]);
    let of_all = SMALL.replace("[[stream]]", "[source]\nforeign_records = \"reject\"\n[[stream]]");
    assert_eq!(policies(&of_all), [ForeignRecords::Reject]);
    assert_eq!(policies(&format!("{of_all}foreign_records = \"strict\"\n")), [ForeignRecords::Strict]);
    let problems = load(&format!("{SMALL}foreign_records = \"drop\"\n"), &[]).unwrap_err();
    assert!(problems[0].contains("expected \"keep\", \"reject\" or \"strict\""), "{problems:?}");
}

#[test]
fn the_streams_name_is_the_end_of_its_arn() {
    let text = SMALL.replace("name = \"s\"", "arn = \"arn:aws:kinesis:eu-west-1:123456789012:stream/orders\"");
    assert_eq!(load(&text, &[]).unwrap().streams[0].name(), "orders");
}

#[test]
fn the_shipped_example_is_what_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/pintail.toml");
    let config = Config::load(&file, std::iter::empty()).unwrap();
    let names: Vec<&str> = config.streams.iter().map(StreamConfig::name).collect();
    assert_eq!(names, ["streaming-pin", "streaming-geo", "streaming-user"]);
    // What is commented out shows the default.
    let text = std::fs::read_to_string(&file).unwrap();
    let shown = |key: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(&format!("# {key} = ")))
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .trim_matches('"')
            .to_owned()
    };
    assert_eq!(DurationMs::from_text(&shown("flush_interval")).unwrap().0, 5_000);
    assert_eq!(ByteSize::from_text(&shown("flush_bytes")).unwrap().0, config.lake.flush.flush_bytes);
    assert_eq!(ByteSize::from_text(&shown("bytes")).unwrap().0, config.budget_bytes);
    assert_eq!(shown("listen"), config.listen.to_string());
    assert_eq!(shown("protect_metrics").parse(), Ok(config.access.protect_metrics));
    assert_eq!(ForeignRecords::from_text(&shown("foreign_records")), Some(config.streams[0].foreign_records));
    assert_eq!(shown("enabled").parse(), Ok(config.maintenance.enabled));
    assert_eq!(
        DurationMs::from_text(&shown("interval")).map(|interval| Duration::from_millis(interval.0)),
        Some(config.maintenance.interval)
    );
    let options = config.maintenance.options;
    assert_eq!(shown("checkpoint_commits").parse(), Ok(options.checkpoint_commits));
    assert_eq!(shown("compact_files").parse(), Ok(options.compact_files));
    assert_eq!(ByteSize::from_text(&shown("target_file_bytes")).unwrap().0, options.target_file_bytes);
    assert_eq!(shown("reads_per_second").parse(), Ok(config.source.reads_per_second));
    assert_eq!(
        DurationMs::from_text(&shown("align_within")).map(|within| Duration::from_millis(within.0)),
        Some(config.source.align_within)
    );
    assert_eq!(
        DurationMs::from_text(&shown("grace")).map(|grace| Duration::from_millis(grace.0)),
        Some(config.shutdown_grace)
    );
}

#[test]
fn grafana_live_is_off_until_it_is_asked_for_and_whole() {
    assert!(load(SMALL, &[]).unwrap().grafana_live.is_none());
    let with = |keys: &str| format!("{SMALL}[grafana_live]\n{keys}");
    let live =
        load(&with("url = \"http://grafana:3000\"\ntoken_file = \"a.toml\"\n"), &[]).unwrap().grafana_live.unwrap();
    assert_eq!((live.url.as_str(), live.interval), ("http://grafana:3000/", Duration::from_millis(250)));
    assert!(live.token_file.is_absolute(), "beside the file that names it");
    for (keys, problem) in [
        ("interval = \"1s\"\n", "pintail.toml:7: `grafana_live` needs both"),
        (
            "url = \"http://g\"\ntoken_file = \"none\"\n",
            "pintail.toml:9: `grafana_live.token_file` = \"none\" cannot be read",
        ),
        ("url = \"http://g/?auth=secret\"\ntoken_file = \"a.toml\"\n", "pintail.toml:8: `grafana_live.url` is not one"),
        ("url = \"http://me:secret@g\"\ntoken_file = \"a.toml\"\n", "pintail.toml:8: `grafana_live.url` is not one"),
        (
            "url = \"http://g\"\ntoken_file = \"a.toml\"\ninterval = \"1ms\"\n",
            "pintail.toml:10: `grafana_live.interval` = \"1ms\"",
        ),
    ] {
        let problems = load(&with(keys), &[]).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with(problem), "{problem} not in {problems:?}");
        assert!(!problems[0].contains("secret"), "{problems:?}");
    }
}

#[test]
fn the_readmes_trial_configuration_is_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let trial = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("schemas")).unwrap();
    for name in ["pin", "geo", "user"] {
        let contract = format!("schemas/{name}.toml");
        std::fs::copy(root.join(&contract), folder.path().join(&contract)).unwrap();
    }
    let file = folder.path().join("trial.toml");
    std::fs::write(&file, trial.replace("PORT", "4567")).unwrap();
    let config = Config::load(&file, std::iter::empty()).unwrap();
    assert_eq!(config.streams.iter().map(StreamConfig::name).collect::<Vec<_>>(), ["pin", "geo", "user"]);
}
