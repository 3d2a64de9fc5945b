//! `run`: the service.

use std::path::Path;
use std::process::ExitCode;

use crate::app::App;
use crate::config::Config;
use crate::source::Kinesis;

/// Reads, cleans, counts and commits until told to stop, then drains.
pub async fn run(path: &Path, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<ExitCode> {
    let config = Config::load_here(path)?;
    let kinesis = Kinesis::connect(&config.aws).await;
    let app = App::build(config, kinesis, None).await?;
    tracing::info!(address = %app.listening_on(), "serving metrics, health, the API and the live page");
    app.run(shutdown).await?;
    tracing::info!("drained");
    Ok(ExitCode::SUCCESS)
}
