//! `run`, `demo` and `post`: the commands that move records.

use std::path::Path;
use std::process::ExitCode;

use crate::app::App;
use crate::config::Config;
use crate::demo::{self, DemoArgs, PostArgs};

/// The service.
pub async fn run(path: &Path, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let config = Config::load(path, std::env::vars())?;
    let app = App::build(config, None).await?;
    tracing::info!(address = %app.listening_on(), "serving metrics, health, the API and the live page");
    app.run(shutdown).await?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}

/// Everything on this machine. Fails if a record was lost or duplicated.
pub async fn demo(args: DemoArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let report = demo::run(args, shutdown).await?;
    Ok(if report.is_exact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The posting emulation alone.
pub async fn post(args: PostArgs, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let summary = demo::post(args, shutdown).await?;
    println!("{summary}");
    Ok(ExitCode::SUCCESS)
}
