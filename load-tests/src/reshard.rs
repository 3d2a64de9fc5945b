//! Splits and merges while records are posted: shards end and begin all the time, and there are never many open.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use aws_sdk_kinesis::types::Shard;
use pintail::checkpoint::ShardId;
use pintail::demo::kinesis::Streams;
use tokio_util::sync::CancellationToken;

use crate::seed::Seed;

/// Open shards of a stream stay within these.
const OPEN_MIN: usize = 2;
const OPEN_MAX: usize = 6;

/// Reshards one of the streams now and then until told to stop; says how often.
pub async fn keep_resharding(
    kinesis: &Streams,
    names: &[&str],
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
        let stream = names[seed.below(names.len() as u64) as usize];
        reshard(kinesis, stream, &mut seed).await.with_context(|| format!("resharding {stream}"))?;
        reshards += 1;
    }
}

async fn reshard(kinesis: &Streams, stream: &str, seed: &mut Seed) -> anyhow::Result<()> {
    let mut open: Vec<(u128, u128, String)> = Vec::new();
    for shard in kinesis.shards(stream).await? {
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
        kinesis.split(stream, shard, &at.to_string()).await?;
    } else {
        let left = seed.below(open.len() as u64 - 1) as usize;
        kinesis.merge(stream, &open[left].2, &open[left + 1].2).await?;
    }
    Ok(())
}

/// Each shard's parents, as Kinesis lists them.
pub async fn parents(kinesis: &Streams, stream: &str) -> anyhow::Result<BTreeMap<ShardId, Vec<ShardId>>> {
    let of = |shard: &Shard| {
        let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
        (ShardId::new(shard.shard_id()), parents.into_iter().flatten().map(ShardId::new).collect())
    };
    Ok(kinesis.shards(stream).await?.iter().map(of).collect())
}
