//! Records of 10 MiB, the largest that Kinesis takes: one for every open shard at a time.

use anyhow::Context;
use pintail::demo::Kind;
use pintail::demo::accepted::{Accepted, AcceptedLog};
use pintail::demo::kinesis::EmbeddedKinesis;
use pintail::demo::pinterest::{Population, TimestampForm};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::seed::Seed;

const BYTES: usize = 10 << 20;

/// What fills a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// A text that does not compress: a pin's description, or a field that no column reads.
    Text,
    /// The smallest JSON tokens, in a field that no column reads: a parser needs many times their size.
    Tokens,
}

/// Puts one record of 10 MiB into every open shard of these streams, and books them.
pub async fn put_everywhere(
    kinesis: &EmbeddedKinesis,
    log: &AcceptedLog,
    population: &Population,
    streams: &[Kind],
    filling: Filling,
    seed: &mut Seed,
) -> anyhow::Result<u64> {
    let mut put = 0;
    for kind in streams.iter().copied() {
        let listed = kinesis.client().list_shards().stream_name(kind.name()).send().await.context("ListShards")?;
        for shard in listed.shards() {
            let is_open = shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none());
            let (true, Some(range)) = (is_open, shard.hash_key_range()) else { continue };
            let (ind, sent) = (seed.below(u64::from(population.rows())) as u32, Instant::now());
            let data = record(population, kind, ind, filling, seed)?;
            let hash_key = range.starting_hash_key().parse()?;
            let place = kinesis.put_large(kind.name(), &ind.to_string(), hash_key, &data).await;
            let (shard, number) = place?;
            log.add(kind.name(), [(shard, Accepted::new(number, sent, ind, &data))]);
            put += 1;
        }
    }
    Ok(put)
}

/// The emulation's record of this row, filled up to [`BYTES`].
fn record(population: &Population, kind: Kind, ind: u32, filling: Filling, seed: &mut Seed) -> anyhow::Result<Vec<u8>> {
    let json = match kind {
        Kind::Pin => population.pin(ind),
        Kind::Geo => population.geo(ind, TimestampForm::Iso),
        Kind::User => population.user(ind, TimestampForm::Iso),
    };
    let mut record: Value = serde_json::from_str(&json).context("the emulation's record")?;
    let field = if kind == Kind::Pin && filling == Filling::Text { "description" } else { "note" };
    record[field] = json!([]);
    let mut bytes = record.to_string().into_bytes();
    let place = format!("\"{field}\":[]");
    let at =
        bytes.windows(place.len()).position(|part| part == place.as_bytes()).context("the field that is filled")?;
    let rest = bytes.split_off(at + place.len() - 2);
    let room = BYTES - bytes.len() - rest.len() + 2;
    match filling {
        Filling::Text => {
            bytes.push(b'"');
            let mut text = Vec::with_capacity(room + 16);
            while text.len() < room - 2 {
                text.extend_from_slice(format!("{:016x}", seed.below(u64::MAX)).as_bytes());
            }
            bytes.extend_from_slice(&text[..room - 2]);
            bytes.push(b'"');
        }
        Filling::Tokens => {
            bytes.extend_from_slice(b"[[]");
            for _ in 0..(room - 4) / 3 {
                bytes.extend_from_slice(b",[]");
            }
            bytes.push(b']');
        }
    }
    bytes.extend_from_slice(&rest[2..]);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_record_is_the_emulations_and_fills_ten_mebibytes() {
        let population = Population::new();
        for filling in [Filling::Text, Filling::Tokens] {
            let bytes = record(&population, Kind::Pin, 7528, filling, &mut Seed::from(1)).unwrap();
            assert!((BYTES - 3..=BYTES).contains(&bytes.len()), "{}", bytes.len());
            assert!(bytes.starts_with(b"{\"index\":7528,\"unique_id\":"));
            assert!(bytes.ends_with(b"}"));
        }
    }
}
