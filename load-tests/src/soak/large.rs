//! Records of 10 MiB, the largest that Kinesis takes: one for every open shard at a time.

use std::sync::Arc;

use anyhow::Context;
use pintail::demo::Kind;
use pintail::demo::accepted::{Accepted, AcceptedLog};
use pintail::demo::kinesis::EmbeddedKinesis;
use pintail::demo::pinterest::{Population, TimestampForm};
use serde::Serialize;
use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::seed::Seed;

const BYTES: usize = 10 << 20;

const TOKEN: &[u8] = b"0,";
const NUMBER: &[u8] = b"12345,";

/// What fills a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Filling {
    /// A text that does not compress: a pin's description, or a field that no column reads.
    Text,
    /// The smallest JSON tokens, in a field that no column reads: a parser would need many times their size.
    Tokens,
    /// As many numbers as are still parsed, in a field that no column reads.
    Numbers,
}

/// Makes and puts them. What takes a processor long is done beside the tasks that post and look meanwhile.
pub struct Large {
    maker: Arc<Maker>,
    seed: Seed,
}

/// Makes records of one size.
pub struct Maker {
    population: Population,
    /// Of every record, or one or two less.
    bytes: usize,
    /// The value that fills a record: as long as a record may be.
    value: Vec<u8>,
    filling: Filling,
}

impl Large {
    pub async fn new(filling: Filling, seed: Seed) -> anyhow::Result<Self> {
        let drawn = seed.clone();
        let maker = spawn_blocking(move || Maker::new(filling, BYTES, drawn)).await?;
        Ok(Self { maker: Arc::new(maker), seed })
    }

    /// Puts one record into every open shard of these streams, and books them.
    pub async fn put_everywhere(
        &mut self,
        kinesis: &EmbeddedKinesis,
        log: &AcceptedLog,
        streams: &[Kind],
    ) -> anyhow::Result<()> {
        for kind in streams.iter().copied() {
            let listed = kinesis.client().list_shards().stream_name(kind.name()).send().await.context("ListShards")?;
            for shard in listed.shards() {
                let numbers = shard.sequence_number_range();
                let is_open = numbers.is_some_and(|range| range.ending_sequence_number().is_none());
                let (true, Some(range)) = (is_open, shard.hash_key_range()) else { continue };
                let ind = self.seed.below(u64::from(self.maker.population.rows())) as u32;
                let (sent, maker) = (Instant::now(), Arc::clone(&self.maker));
                let data = spawn_blocking(move || maker.record(kind, ind)).await??;
                let hash_key = range.starting_hash_key().parse()?;
                let (shard, number) = kinesis.put_large(kind.name(), &ind.to_string(), hash_key, &data).await?;
                let accepted = spawn_blocking(move || Accepted::new(number, sent, ind, &data)).await?;
                log.add(kind.name(), [(shard, accepted)]);
            }
        }
        Ok(())
    }
}

impl Maker {
    /// Of so many bytes: more than the emulation's own.
    pub fn new(filling: Filling, bytes: usize, mut seed: Seed) -> Self {
        let value = match filling {
            Filling::Text => {
                let letter = |bits: u64| b"0123456789abcdef"[(bits & 15) as usize];
                let words = std::iter::repeat_with(|| seed.below(u64::MAX)).take(bytes / 16 + 1);
                words.flat_map(|word| (0..16).map(move |at| letter(word >> (4 * at)))).collect()
            }
            Filling::Tokens => TOKEN.repeat(bytes / TOKEN.len()),
            Filling::Numbers => NUMBER.repeat(bytes / NUMBER.len()),
        };
        Self { population: Population::new(), bytes, value, filling }
    }

    /// The emulation's record of this row, filled up. `Err` if it is that large by itself.
    pub fn record(&self, kind: Kind, ind: u32) -> anyhow::Result<Vec<u8>> {
        let json = match kind {
            Kind::Pin => self.population.pin(ind),
            Kind::Geo => self.population.geo(ind, TimestampForm::Iso),
            Kind::User => self.population.user(ind, TimestampForm::Iso),
        };
        let (field, open, close) = match (kind, self.filling) {
            (Kind::Pin, Filling::Text) => ("description", "\"", "\""),
            (Kind::Geo | Kind::User, Filling::Text) => ("note", "\"", "\""),
            (Kind::Pin | Kind::Geo | Kind::User, Filling::Tokens | Filling::Numbers) => ("note", "[", "0]"),
        };
        let mut record: Value = serde_json::from_str(&json).context("the emulation's record")?;
        record[field] = Value::Null;
        let json = record.to_string();
        // Within a text every quote is escaped, so that this is the field; other fields may be null, too.
        let (before, after) =
            json.split_once(&format!("\"{field}\":null")).with_context(|| format!("no {field} in {json}"))?;
        let open = format!("\"{field}\":{open}");
        let own = before.len() + after.len() + open.len() + close.len();
        let bytes = self.bytes;
        let room = bytes.checked_sub(own).with_context(|| format!("row {ind} takes {own} bytes, {bytes} are asked"))?;
        let token_bytes = match self.filling {
            Filling::Text => 1,
            Filling::Tokens => TOKEN.len(),
            Filling::Numbers => NUMBER.len(),
        };
        let room = room / token_bytes * token_bytes;
        let value = std::str::from_utf8(&self.value[..room])?;
        Ok([before, &open, value, close, after].concat().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_record_is_the_emulations_and_fills_ten_mebibytes() {
        for filling in [Filling::Text, Filling::Tokens, Filling::Numbers] {
            let large = Maker::new(filling, BYTES, Seed::from(1));
            for kind in Kind::ALL {
                let bytes = large.record(kind, 7528).unwrap();
                assert!((BYTES - 5..=BYTES).contains(&bytes.len()), "{}", bytes.len());
                let record: Value = serde_json::from_slice(&bytes).unwrap();
                let ind = record.get("index").or_else(|| record.get("ind"));
                assert_eq!(ind, Some(&Value::from(7528)));
            }
        }
    }

    #[test]
    fn rows_can_be_filled_up_whatever_is_null_in_them() {
        for filling in [Filling::Text, Filling::Tokens] {
            let maker = Maker::new(filling, 16_000, Seed::from(1));
            for (kind, ind) in Kind::ALL.into_iter().flat_map(|kind| (0..11_154).step_by(5).map(move |ind| (kind, ind)))
            {
                let bytes = maker.record(kind, ind).unwrap();
                serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).unwrap();
            }
        }
    }
}
