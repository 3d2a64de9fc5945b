//! `demo` and `post`: the emulation with and without a processor behind it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::app::App;
use crate::config::{Config, LakeSection, MaintenanceSection, SourceSection, StreamConfig};
use crate::contract;
use crate::demo::{self, DemoArgs, Kind, PostArgs, Processor, ProcessorSetup, StreamTables};
use crate::lake::{LakeConfig, WriterOptions};
use crate::limits::WINDOW_SERIES_DEFAULT;
use crate::say::say;
use crate::serve::Access;
use crate::serve::BindError;
use crate::source::{ForeignRecords, Kinesis, KinesisConfig, OnDataLoss, StartPosition};
use crate::toml_doc::Problems;

/// Often enough to be seen in a short demo.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// Short, so that a watcher sees the tables grow.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Everything on this machine. Its exit code says whether every record is where it belongs, once.
pub async fn demo(args: DemoArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let report = demo::run(args, start, shutdown).await?;
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The emulation alone, against any endpoint.
pub async fn post(args: PostArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let summary = demo::post(args, shutdown).await?;
    say!("{summary}");
    Ok(ExitCode::SUCCESS)
}

async fn start(setup: ProcessorSetup) -> anyhow::Result<Processor> {
    let endpoint = setup.sdk_config.endpoint_url().context("the embedded Kinesis has no address")?;
    let kinesis = Kinesis::local(endpoint);
    let config = config(&setup)?;
    let tables = config.streams.iter().zip(setup.streams).map(|(stream, kind)| StreamTables {
        stream: stream.name().to_owned(),
        kind,
        rows: stream.contract.table.clone(),
        rejects: stream.contract.rejects_table(),
    });
    let tables = tables.collect();
    let port = config.listen.port();
    let app = App::build(config, kinesis, Some(setup.probe)).await.map_err(|error| {
        let is_taken = error.chain().any(|cause| cause.is::<BindError>());
        if is_taken { error.context(format!("port {port} cannot be had; choose another with --port")) } else { error }
    })?;
    let (board, page) = (app.status(), format!("http://{}/", app.listening_on()));
    let repaired = board.clone();
    let stop = setup.shutdown;
    Ok(Processor {
        tables,
        board,
        page,
        repairs: Box::new(move || {
            let streams = repaired.snapshot().into_iter();
            let named = |(repair, count): (&'static str, u64)| (repair.to_owned(), count);
            streams
                .map(|(name, stream)| (name, stream.cleaned.repairs.into_iter().map(named).collect()))
                .collect::<BTreeMap<_, _>>()
        }),
        run: Box::pin(async move { app.run(stop.cancelled_owned()).await }),
    })
}

fn config(setup: &ProcessorSetup) -> anyhow::Result<Config> {
    let streams = setup.streams.iter().map(|kind| stream(*kind)).collect::<anyhow::Result<_>>()?;
    let uri = setup.lake.to_str().context("the lake's folder is not UTF-8")?.to_owned();
    Ok(Config {
        pipeline: "demo".to_owned(),
        lake: LakeSection {
            location: LakeConfig { uri, region: None, endpoint: None },
            flush: WriterOptions { flush_interval: FLUSH_INTERVAL, flush_bytes: 32 << 20 },
        },
        source: SourceSection {
            on_data_loss: OnDataLoss::Fail,
            reads_per_second: 5.0,
            align_within: Duration::from_secs(600),
        },
        budget_bytes: 256 << 20,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, setup.port.unwrap_or(0))),
        window_series_max: WINDOW_SERIES_DEFAULT,
        grafana_live: None,
        access: Access::default(),
        aws: KinesisConfig::default(),
        shutdown_grace: Duration::from_secs(60),
        maintenance: MaintenanceSection { interval: MAINTENANCE_INTERVAL, ..MaintenanceSection::default() },
        streams,
    })
}

fn stream(kind: Kind) -> anyhow::Result<StreamConfig> {
    let (file, text) = demo::contracts::shipped(kind);
    let problems = Problems::default();
    let contract = contract::parse(file, text.to_owned(), &problems);
    problems.into_result()?;
    let contract = Arc::new(contract.with_context(|| format!("{file} cannot be used"))?);
    Ok(StreamConfig {
        id: kind.name().to_owned(),
        contract,
        start: StartPosition::TrimHorizon,
        foreign_records: ForeignRecords::Keep,
    })
}
