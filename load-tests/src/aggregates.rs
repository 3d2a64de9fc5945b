//! Posts the emulation as a producer does that packs many records into one.

use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use pintail::checkpoint::{SequenceNumber, ShardId};
use pintail::demo::accepted::Accepted;
use pintail::demo::pinterest::Posting;
use pintail::demo::{Kind, aggregate};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::poster::Poster;
use crate::seed::Seed;

/// Rounds of the emulation in one call to each stream.
const ROUNDS: usize = 60;
/// Records of the largest aggregate.
const AGGREGATE_RECORDS_MAX: u64 = 40;
/// Between two calls: some thousand records a second over all streams, in some hundred aggregates.
const PAUSE: Duration = Duration::from_millis(50);

impl Poster {
    /// Posts aggregates of up to 40 records, and one in four records alone, until told to stop. The book has every
    /// record of an aggregate under the aggregate's number.
    pub async fn post_aggregated_until(&mut self, seed: &mut Seed, stop: &CancellationToken) -> anyhow::Result<()> {
        while !stop.is_cancelled() {
            let mut postings: Vec<Posting> =
                self.emulation.by_ref().take(ROUNDS).flat_map(|action| action.postings).collect();
            for kind in Kind::ALL {
                let of_kind = postings.extract_if(.., |posting| posting.kind == kind).collect();
                self.put_aggregated(kind, of_kind, seed).await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn put_aggregated(&self, kind: Kind, mut postings: Vec<Posting>, seed: &mut Seed) -> anyhow::Result<()> {
        let (mut entries, mut records) = (Vec::new(), Vec::new());
        while let Some(first) = postings.first() {
            let together = if seed.below(4) == 0 { 1 } else { 1 + seed.below(AGGREGATE_RECORDS_MAX) as usize };
            // The aggregate goes where its first record belongs; where its others do is nobody's care.
            let entry = PutRecordsRequestEntry::builder().partition_key(first.ind.to_string());
            let packed: Vec<Posting> = postings.drain(..together.min(postings.len())).collect();
            let data = match packed.as_slice() {
                [alone] if seed.below(2) == 0 => alone.data.clone(),
                packed => {
                    let keys: Vec<String> = packed.iter().map(|posting| posting.ind.to_string()).collect();
                    let records = keys.iter().zip(packed).map(|(key, posting)| (key.as_str(), None, &*posting.data));
                    aggregate(records)
                }
            };
            entries.push(entry.data(Blob::new(data)).build()?);
            records.push(packed);
        }
        let (sent, stream) = (Instant::now(), kind.name());
        let answer = self.client.put_records().stream_name(stream).set_records(Some(entries)).send().await?;
        ensure!(answer.records.len() == records.len(), "PutRecords answered for {} records", answer.records.len());
        for (entry, records) in answer.records.into_iter().zip(records) {
            ensure!(entry.error_code.is_none(), "an aggregate was refused: {:?}", entry.error_message);
            let shard = ShardId::new(entry.shard_id.context("an acknowledgement names the shard")?);
            let number = SequenceNumber::parse(&entry.sequence_number.context("and the number")?)?;
            let booked = |posting: Posting| (shard.clone(), Accepted::new(number, sent, posting.ind, &posting.data));
            self.log.add(stream, records.into_iter().map(booked));
        }
        Ok(())
    }
}
