//! A stream that is deleted and created anew under its name: another stream, whose records are all read, and the old
//! one's stay.

use load_tests::kinesis_proxy::{Fault, Operation};
use load_tests::{Child, Instance, Scene, get, until};
use pintail::clock::now_ms;
use pintail::demo::Kind;

use crate::places::behind_a_proxy;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
const PIN: &str = "pin";

async fn delete(scene: &Scene) -> anyhow::Result<()> {
    let client = scene.kinesis.client();
    client.delete_stream().stream_name(PIN).send().await?;
    let gone = async || Ok(client.describe_stream_summary().stream_name(PIN).send().await.err());
    until("the stream is gone", gone).await?;
    // Creation times are told in whole seconds.
    let second = now_ms() / 1_000;
    until("the next second", async || Ok((now_ms() / 1_000 > second).then_some(()))).await
}

/// The words of `/readyz`, once it is not ready and they hold this one.
async fn until_not_ready(child: &mut Child, word: &str) -> anyhow::Result<()> {
    let address = child.address().await?;
    until("it is not ready and says why", async || {
        child.alive()?;
        let answer = get(address, "/readyz").await?;
        Ok((answer.status == 503 && answer.body.contains(word)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn created_anew_between_two_starts_it_is_read_from_its_beginning() -> anyhow::Result<()> {
    let (scene, _proxy, mut poster) = behind_a_proxy(2).await?;
    poster.post(300, 20_000.0).await?;
    let mut first = scene.start().await?;
    scene.caught_up(&poster.log, &mut first).await?;
    first.drain().await?;
    let (old, posted) = (scene.ledger(Kind::Pin).await?, poster.log.count(PIN));

    delete(&scene).await?;
    scene.kinesis.create_stream(PIN, 3).await?;
    poster.post(300, 20_000.0).await?;
    let mut second = scene.start().await?;
    scene.caught_up(&poster.log, &mut second).await?;
    assert_eq!(second.records_read(), poster.log.count(PIN) - posted);
    second.drain().await?;
    // Both streams' records are in the tables, each once; the new stream's shards have a ledger of their own.
    scene.verify(&poster.log).await?;
    let new = scene.ledger(Kind::Pin).await?;
    assert_eq!((old.shards.len(), new.shards.len()), (2, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_and_created_anew_under_a_running_service_it_is_waited_for_and_read_after_a_restart()
-> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    poster.post(300, 20_000.0).await?;
    let mut child = scene.spawn(PINTAIL)?;
    scene.caught_up(&poster.log, &mut child).await?;
    let posted = poster.log.count(PIN);
    // An iterator of a stream that is gone stays without effect; the embedded Kinesis would honour it.
    let gone = proxy.faults().add(|call| call.operation == Operation::GetRecords, Fault::not_found(), None);
    delete(&scene).await?;
    until_not_ready(&mut child, "not found").await?;
    let told = child.stderr()?.matches("cannot read, will try again").count();
    assert_eq!(told, 1, "{}", child.story());

    scene.kinesis.create_stream(PIN, 2).await?;
    poster.post(300, 20_000.0).await?;
    let status = child.ended().await?;
    assert_eq!(status.code(), Some(1), "{}", child.story());
    assert!(child.stderr()?.contains("was created anew"), "{}", child.story());
    proxy.faults().remove(gone);
    let mut next = scene.start().await?;
    scene.caught_up(&poster.log, &mut next).await?;
    assert_eq!(next.records_read(), poster.log.count(PIN) - posted);
    next.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_that_were_never_read_do_not_go_on_in_the_new_stream_under_the_old_ones_name() -> anyhow::Result<()> {
    let (scene, proxy, mut poster) = behind_a_proxy(2).await?;
    let mut child = scene.spawn(PINTAIL)?;
    until("both empty shards are read", async || {
        child.alive()?;
        Ok((proxy.calls(|call| call.operation == Operation::GetRecords) > 4).then_some(()))
    })
    .await?;
    // Nobody is asked while the streams are exchanged; then the iterators have expired.
    let nothing =
        proxy.faults().add(|call| call.operation == Operation::GetRecords, Fault::Empty { behind_ms: 0 }, None);
    until("a read meets that", async || Ok((proxy.faults().hits(nothing) > 4).then_some(()))).await?;
    let expired = proxy.faults().add(|call| call.operation == Operation::GetRecords, Fault::expired_iterator(), None);
    delete(&scene).await?;
    scene.kinesis.create_stream(PIN, 2).await?;
    poster.post(300, 20_000.0).await?;
    proxy.faults().remove(nothing);
    let status = child.ended().await?;
    assert_eq!(status.code(), Some(1), "{}", child.story());
    assert!(proxy.faults().hits(expired) > 0);
    proxy.faults().clear();
    let mut next = scene.start().await?;
    until("the new stream is read", async || Ok((next.records_read() == poster.log.count(PIN)).then_some(()))).await?;
    scene.caught_up(&poster.log, &mut next).await?;
    next.drain().await?;
    scene.verify(&poster.log).await?;
    Ok(())
}
