//! Credentials that run out, hosts that do not resolve: not ready, one clear line, and on it goes when the cause is
//! gone.

use load_tests::kinesis_proxy::{Fault, Request};
use load_tests::{Child, Instance, Scene, Seed, get, until};
use pintail::demo::Kind;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");

async fn until_ready(child: &mut Child, ready: bool, word: &str) -> anyhow::Result<()> {
    let address = child.address().await?;
    until(if ready { "it is ready" } else { "it is not ready and says why" }, async || {
        child.alive()?;
        let answer = get(address, "/readyz").await?;
        let streams = answer.json()?["streams"].as_array().cloned().unwrap_or_default();
        let as_wanted = streams.iter().all(|stream| stream["ready"] == ready && stream.to_string().contains(word));
        Ok((streams.len() == Kind::ALL.len() && as_wanted).then_some(()))
    })
    .await
}

/// The lines of its log that hold this text.
fn lines(child: &Child, text: &str) -> anyhow::Result<Vec<String>> {
    Ok(child.stderr()?.lines().filter(|line| line.contains(text)).map(str::to_owned).collect())
}

/// Every call is answered so until it is told, and for some calls more; then all is well again.
async fn goes_on_after(fault: Fault, word: &str) -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(3).await?;
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    poster.post(300, 20_000.0).await?;
    let mut child = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut child).await?;

    let every = |_: &Request| true;
    let rule = proxy.faults().add(every, fault, None);
    poster.post(300, 20_000.0).await?;
    until_ready(&mut child, false, word).await?;
    // Each of nine shards has tried more than once.
    until("it is tried again", async || Ok((proxy.faults().hits(rule) >= 27).then_some(()))).await?;
    proxy.faults().remove(rule);
    scene.caught_up(&poster.log, &mut child).await?;
    until_ready(&mut child, true, "").await?;
    let told = lines(&child, "cannot read, will try again")?;
    assert!(told.iter().all(|line| line.contains(word)), "{told:#?}");
    assert_eq!(told.len(), Kind::ALL.len(), "one line a stream: {told:#?}");
    assert_eq!(lines(&child, "reads again")?.len(), Kind::ALL.len());
    assert_eq!(child.terminate().await?.code(), Some(0));
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_run_out_are_told_once_and_it_goes_on_when_they_are_renewed() -> anyhow::Result<()> {
    goes_on_after(Fault::expired_token(), "access denied; check the credentials").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_taken_away_is_told_once_and_it_goes_on_when_it_is_back() -> anyhow::Result<()> {
    goes_on_after(Fault::access_denied(), "AccessDeniedException").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_disabled_is_told_once_and_it_goes_on_when_it_is_enabled() -> anyhow::Result<()> {
    goes_on_after(Fault::kms_disabled(), "KMS refuses to decrypt").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_are_told_once_and_it_goes_on_when_they_hold() -> anyhow::Result<()> {
    goes_on_after(Fault::Drop, "Kinesis cannot be reached or failed").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_resolve_is_told_once_by_name_and_waited_for() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    scene.settings.endpoint = Some("http://kinesis.nowhere.invalid:4567".to_owned());
    let mut child = scene.spawn(PINTAIL)?;
    until_ready(&mut child, false, "Kinesis cannot be reached").await?;
    let told = lines(&child, "cannot read, will try again")?;
    assert_eq!(told.len(), Kind::ALL.len(), "{told:#?}");
    assert!(told.iter().all(|line| line.contains("kinesis.nowhere.invalid")), "{told:#?}");
    assert_eq!(child.terminate().await?.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_while_it_cannot_read_it_does_not_say_that_it_reads_again() -> anyhow::Result<()> {
    let seed = Seed::announced();
    let mut scene = Scene::new(1).await?;
    let proxy = scene.interpose().await?;
    let mut poster = scene.poster(seed.value());
    poster.post(300, 20_000.0).await?;
    let mut child = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut child).await?;
    proxy.faults().add(|_: &Request| true, Fault::access_denied(), None);
    until_ready(&mut child, false, "AccessDeniedException").await?;
    child.ask_to_end().await?;
    assert_eq!(child.ended().await?.code(), Some(0));
    assert_eq!(lines(&child, "cannot read, will try again")?.len(), Kind::ALL.len());
    assert_eq!(lines(&child, "reads again")?, Vec::<String>::new());
    assert_eq!(lines(&child, "reading for the first time")?.len(), Kind::ALL.len());
    Ok(())
}
