//! What a processor shows before it has met anything.

use super::*;

const CONTRACT: &str = "table = \"orders\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\n\
    [[window]]\nname = \"orders_by_minute\"\nevery = \"1m\"\nmeasure = { orders = \"count\" }\n";

#[tokio::test]
async fn the_numbers_of_every_table_are_there_before_kinesis_and_the_lake_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.toml"), CONTRACT).unwrap();
    let (file, lake) = (folder.path().join("pintail.toml"), folder.path().join("lake"));
    let text = format!(
        "pipeline = \"p\"\n[lake]\nuri = {lake:?}\n[serve]\nlisten = \"127.0.0.1:0\"\n\
         [grafana_live]\nurl = \"http://127.0.0.1:1\"\ntoken_file = \"orders.toml\"\n\
         [[stream]]\nname = \"orders\"\ncontract = \"orders.toml\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file, std::iter::empty()).unwrap();
    let tables = config.streams[0].contract.tables();
    let app = App::build(config, Kinesis::local("http://127.0.0.1:1"), None).await.unwrap();
    let registry = app.registry.clone();
    app.run(std::future::ready(())).await.unwrap();
    let text = registry.render();
    assert_eq!(tables.len(), 4, "rows, rejects, partials, sealed rows");
    assert!(text.contains("pintail_ready{stream=\"orders\"} 0\n"), "{text}");
    assert!(text.contains("pintail_flush_interval_seconds{stream=\"orders\"} 5\n"), "{text}");
    assert!(text.contains("pintail_grafana_live_pushes_total{result=\"ok\"} 0\n"), "{text}");
    for name in Registry::counters().filter(|name| text.contains(&format!("{name}{{stream=\"orders\",table="))) {
        for table in &tables {
            assert!(text.contains(&format!("{name}{{stream=\"orders\",table=\"{table}\"")), "{name} of {table}");
        }
    }
    for name in ["pintail_rows_committed_total", "pintail_compactions_overtaken_total"] {
        assert!(text.contains(&format!("{name}{{stream=\"orders\",table=\"orders\"}} 0\n")), "{name} in {text}");
    }
}

#[test]
fn what_befalls_every_stream_is_one_cause_and_what_befalls_one_is_another() {
    let refused = |stream: &str, cause: &str| {
        let error = anyhow::anyhow!(cause.to_owned()).context(format!("stream {stream} cannot be read"));
        error.context(format!("stream {stream}"))
    };
    let first = refused("pin", "no credentials found in chain");
    assert!(is_of_one_cause(&refused("geo", "no credentials found in chain"), &first));
    assert!(!is_of_one_cause(&refused("geo", "access denied"), &first));
    let lost = |stream: &str| anyhow::anyhow!("records were trimmed").context(format!("stream {stream}"));
    assert!(!is_of_one_cause(&lost("pin"), &lost("geo")), "each has a range of its own to tell");
}
