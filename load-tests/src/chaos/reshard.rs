//! Splits and merges while records are posted: shards end and begin all the time, and there are never many open.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use aws_sdk_kinesis::types::Shard;
use pintail::checkpoint::ShardId;
use pintail::demo::Kind;
use pintail::demo::kinesis::EmbeddedKinesis;
use tokio_util::sync::CancellationToken;

use crate::seed::Seed;

/// Open shards of a stream stay within these.
const OPEN_MIN: usize = 2;
const OPEN_MAX: usize = 6;

/// Reshards one of the streams now and then until told to stop; says how often.
pub async fn keep_resharding(
    kinesis: &EmbeddedKinesis,
    every: Duration,
    mut seed: Seed,
    stop: &CancellationToken,
) -> anyhow::Result<u64> {
    let mut reshards = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(reshards),
            () = tokio::time::sleep(every) => {}
        }
        let kind = Kind::ALL[seed.below(Kind::ALL.len() as u64) as usize];
        reshard(kinesis, kind, &mut seed).await.with_context(|| format!("resharding {}", kind.name()))?;
        reshards += 1;
    }
}

async fn reshard(kinesis: &EmbeddedKinesis, kind: Kind, seed: &mut Seed) -> anyhow::Result<()> {
    let mut open: Vec<(u128, u128, String)> = Vec::new();
    for shard in shards(kinesis, kind).await? {
        let is_open = shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none());
        if let (true, Some(range)) = (is_open, shard.hash_key_range()) {
            let (from, to) = (range.starting_hash_key().parse()?, range.ending_hash_key().parse()?);
            open.push((from, to, shard.shard_id().to_owned()));
        }
    }
    open.sort_unstable();
    let splits = open.len() <= OPEN_MIN || (open.len() < OPEN_MAX && seed.below(2) == 0);
    if splits {
        let (from, to, shard) = &open[seed.below(open.len() as u64) as usize];
        // Not always in the middle, so that shards are of unlike size.
        let at = from + (to - from) / 4 * (1 + u128::from(seed.below(3)));
        kinesis.split(kind.name(), shard, &at.to_string()).await?;
    } else {
        let left = seed.below(open.len() as u64 - 1) as usize;
        kinesis.merge(kind.name(), &open[left].2, &open[left + 1].2).await?;
    }
    Ok(())
}

/// Each shard's parents, as Kinesis lists them.
pub async fn parents(kinesis: &EmbeddedKinesis, kind: Kind) -> anyhow::Result<BTreeMap<ShardId, Vec<ShardId>>> {
    let of = |shard: &Shard| {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
        (ShardId::new(shard.shard_id()), parents.into_iter().flatten().map(ShardId::new).collect())
    };
    Ok(shards(kinesis, kind).await?.iter().map(of).collect())
}

async fn shards(kinesis: &EmbeddedKinesis, kind: Kind) -> anyhow::Result<Vec<Shard>> {
    let mut shards = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let call = kinesis.client().list_shards();
        let call = match next.take() {
            Some(token) => call.next_token(token),
            None => call.stream_name(kind.name()),
        };
        let page = call.send().await.context("ListShards")?;
        shards.extend(page.shards.unwrap_or_default());
        next = page.next_token;
        if next.is_none() {
            return Ok(shards);
        }
    }
}
