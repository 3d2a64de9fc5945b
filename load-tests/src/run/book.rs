//! The book on its way from the producer's process to ours: a line a record, in the order of the acknowledgements.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use pintail::checkpoint::{SequenceNumber, ShardId};
use pintail::demo::Kind;
use pintail::demo::accepted::{Accepted, AcceptedLog};

use super::clock::Clock;

/// Writes everything that a producer has booked under these stream names.
pub fn write(path: &Path, log: &AcceptedLog, streams: &[String; 3], clock: &Clock) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    for kind in Kind::ALL {
        for (shard, records) in log.stream(&streams[kind as usize]) {
            for Accepted { number, sent, ind, payload } in records {
                writeln!(file, "{} {shard} {number} {} {ind} {payload}", kind.name(), clock.us(sent))?;
            }
        }
    }
    Ok(file.flush()?)
}

/// Adds what was written to the book, under the kinds' own names.
pub fn read(path: &Path, log: &AcceptedLog, clock: &Clock) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    for line in BufReader::new(file).lines() {
        let line = line?;
        let (kind, shard, accepted) = parse(&line, clock).with_context(|| format!("a line of the book: {line:?}"))?;
        log.add(kind.name(), [(shard, accepted)]);
    }
    Ok(())
}

fn parse(line: &str, clock: &Clock) -> anyhow::Result<(Kind, ShardId, Accepted)> {
    let fields: Vec<&str> = line.split(' ').collect();
    let [kind, shard, number, sent_us, ind, payload] = fields[..] else { anyhow::bail!("six fields were expected") };
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).context("no kind")?;
    let number = SequenceNumber::parse(number)?;
    let sent = clock.instant(sent_us.parse()?);
    Ok((kind, ShardId::new(shard), Accepted { number, sent, ind: ind.parse()?, payload: payload.parse()? }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn the_book_comes_back_under_the_kinds_names() {
        let clock = Clock::read().unwrap();
        let (there, here) = (AcceptedLog::default(), AcceptedLog::default());
        let streams = ["x-pin", "x-geo", "x-user"].map(str::to_owned);
        let number = SequenceNumber::parse(&"49".repeat(28)).unwrap();
        let sent = Instant::now() + Duration::from_secs(1);
        let (shard, record) = (ShardId::new("shardId-000000000007"), Accepted::new(number, sent, 7528, b"{}"));
        there.add("x-geo", [(shard.clone(), record)]);
        let file = tempfile::NamedTempFile::new().unwrap();
        write(file.path(), &there, &streams, &clock).unwrap();
        read(file.path(), &here, &clock).unwrap();
        let back = here.stream("geo")[&shard][0];
        assert_eq!((back.number, back.ind, back.payload), (record.number, record.ind, record.payload));
        let error = back.sent.saturating_duration_since(sent).max(sent.saturating_duration_since(back.sent));
        assert!(error < Duration::from_micros(2), "{error:?}");
    }
}
