//! Runs of one profile with one thing changed between them, in turns: what that thing costs the service.
//!
//! A figure of one run says as much about the machine's hour as about Pintail. So each round has every variant, each
//! begins with another one, what is told are differences and ratios within a round, and the middle one is the answer.

mod footprint;
mod windows_cost;

use anyhow::Context;

use crate::run::{self, Profile, Report};
use crate::seed::Seed;

pub use footprint::FootprintArgs;
pub use windows_cost::WindowsCostArgs;

/// The same profile in several variants, so many times.
struct Series<'a> {
    program: &'a str,
    rounds: usize,
    seed: Seed,
    variants: Vec<(String, Profile)>,
    /// What is told of a run as soon as it is done.
    tell: fn(&Report) -> String,
}

impl Series<'_> {
    /// By round, the report of each variant in the variants' order; and what did not hold, in words.
    async fn run(&self) -> anyhow::Result<(Vec<Vec<Report>>, Vec<String>)> {
        let (mut rounds, mut violations) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let mut reports: Vec<Option<Report>> = vec![None; self.variants.len()];
            for variant in turns(round, self.variants.len()) {
                let (name, profile) = &self.variants[variant];
                let plan = run::Plan {
                    profile: profile.clone(),
                    seed: self.seed.clone(),
                    target: None,
                    prefix: String::new(),
                    yes: false,
                    progress: false,
                };
                let report = run::run(self.program, &plan, std::future::pending()).await;
                let report = report.with_context(|| format!("{name}, round {}", round + 1))?;
                eprintln!("round {} of {}, {name}: {}", round + 1, self.rounds, (self.tell)(&report));
                let of_run = |violation: &String| format!("{name}, round {}: {violation}", round + 1);
                violations.extend(report.violations.iter().map(of_run));
                reports[variant] = Some(report);
            }
            rounds.push(reports.into_iter().flatten().collect());
        }
        Ok((rounds, violations))
    }
}

/// The variants in the order of a round.
fn turns(round: usize, variants: usize) -> impl Iterator<Item = usize> {
    (0..variants).map(move |turn| (turn + round) % variants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_every_round_and_is_the_first_in_some() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| turns(round, 3).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }
}
