//! What follows of the service's turns: who was how fast from Kinesis to the lake, and Spark beside them.

use serde::Serialize;

use super::arithmetic::Spread;
use super::engines::Engine;
use super::ours::Job;
use super::parts::Parts;
use super::report::{Line, Report};
use super::service::{Mix, PartsTurn, Reader};

/// Who was how fast from Kinesis to the lake.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceLine {
    /// The streams.
    pub mix: Mix,
    /// Whose.
    pub who: Reader,
    /// What it is.
    pub version: String,
    /// Records in a second of the process's CPU.
    pub records_per_cpu_s: Spread,
    /// How many times Pintail's CPU it needs a record.
    pub times_pintail: Option<Spread>,
    /// Of Pintail: how many times the CPU of its parts it needs a record, in the same round.
    pub times_parts: Option<Spread>,
    /// Of Pintail: the parts, the mean of the rounds.
    pub parts: Option<Parts>,
    /// The most that was resident at once, in any round.
    pub rss_peak_bytes: u64,
    /// How its tables differ from Pintail's, in any round.
    pub differences: Vec<String>,
}

impl Report {
    /// Of both mixes; the lines of the paths that begin with a file are there already.
    pub(super) fn service_lines(&self) -> Vec<ServiceLine> {
        let of_mix = |mix| [self.service(mix, Reader::Pintail), self.service(mix, Reader::Consumer), self.spark(mix)];
        Mix::ALL.into_iter().flat_map(of_mix).flatten().collect()
    }

    fn service(&self, mix: Mix, who: Reader) -> Option<ServiceLine> {
        let turns_of = |who| self.served.iter().filter(move |turn| (turn.mix, turn.who) == (mix, who));
        let each_s = self.cpu_s_a_record(mix, who);
        let ratios =
            (who == Reader::Consumer).then(|| Spread::of_ratios(&each_s, &self.cpu_s_a_record(mix, Reader::Pintail)));
        let parts: Vec<PartsTurn> = self.parts.iter().filter(|turn| turn.mix == mix).copied().collect();
        let parts_s: Vec<Option<f64>> = turns_of(who)
            .map(|turn| parts.iter().find(|of| of.round == turn.round).map(|of| of.parts.sum_ns() / 1e9))
            .collect();
        let is_ours = who == Reader::Pintail;
        let each: Vec<Parts> = parts.iter().map(|turn| turn.parts).collect();
        let mut differences: Vec<String> = turns_of(who).flat_map(|turn| turn.differences.clone()).collect();
        differences.sort_unstable();
        differences.dedup();
        Some(ServiceLine {
            mix,
            who,
            version: turns_of(who).next()?.work.version.clone(),
            records_per_cpu_s: rates(&each_s)?,
            times_pintail: ratios.flatten(),
            times_parts: is_ours.then(|| Spread::of_ratios(&each_s, &parts_s)).flatten(),
            parts: (is_ours && !each.is_empty()).then(|| Parts::mean(&each)),
            rss_peak_bytes: turns_of(who).map(|turn| turn.work.rss_peak_bytes).max()?,
            differences,
        })
    }

    /// Spark does less than the service when it makes Parquet of files: who is not as fast as that on files is not on
    /// Kinesis either. A record of the mix costs what one of each stream costs on average.
    fn spark(&self, mix: Mix) -> Option<ServiceLine> {
        let spark = Some(Engine::Spark);
        let ours_s = self.cpu_s_a_record(mix, Reader::Pintail);
        let of_kind =
            |kind| self.lines.iter().find(|line| (line.kind, line.job, line.who) == (kind, Job::Parquet, spark));
        let lines: Vec<&Line> = mix.kinds().into_iter().map(of_kind).collect::<Option<_>>()?;
        let by_kind: Vec<Vec<Option<f64>>> =
            lines.iter().map(|line| self.cpu_s_a_line(line.kind, Job::Parquet, spark, false)).collect();
        let mean_s = |round| {
            let sum_s: Option<f64> = by_kind.iter().map(|each_s| each_s.get(round).copied().flatten()).sum();
            sum_s.map(|sum_s| sum_s / by_kind.len() as f64)
        };
        let each_s: Vec<Option<f64>> = (0..self.rounds).map(mean_s).collect();
        Some(ServiceLine {
            mix,
            who: Reader::Spark,
            version: lines.first()?.version.clone(),
            records_per_cpu_s: rates(&each_s)?,
            times_pintail: Some(Spread::of_ratios(&each_s, &ours_s)?),
            times_parts: None,
            parts: None,
            rss_peak_bytes: lines.iter().map(|line| line.rss_peak_bytes).max()?,
            differences: Vec::new(),
        })
    }

    /// Round by round.
    fn cpu_s_a_record(&self, mix: Mix, who: Reader) -> Vec<Option<f64>> {
        let turns = self.served.iter().filter(|turn| (turn.mix, turn.who) == (mix, who));
        turns.map(|turn| Some(turn.work.cpu_s / turn.records as f64)).collect()
    }
}

/// Records in a second.
fn rates(each_s: &[Option<f64>]) -> Option<Spread> {
    Spread::of(&each_s.iter().flatten().map(|each_s| 1.0 / each_s).collect::<Vec<f64>>())
}
