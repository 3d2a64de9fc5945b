//! Sides of a comparison, in turns, by CPU time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often every side has its turn, after one that does not count.
#[derive(Debug, Clone, Copy)]
pub struct Rounds(pub usize);

/// One way to do something to `records` records.
pub struct Side<'a> {
    pub name: &'a str,
    pub records: usize,
    /// Before each turn, off the clock.
    pub prepare: Box<dyn FnMut() + 'a>,
    pub run: Box<dyn FnMut() + 'a>,
}

impl<'a> Side<'a> {
    pub fn new(name: &'a str, records: usize, run: impl FnMut() + 'a) -> Self {
        Self { name, records, prepare: Box::new(|| {}), run: Box::new(run) }
    }

    pub fn after(self, prepare: impl FnMut() + 'a) -> Self {
        Self { prepare: Box::new(prepare), ..self }
    }
}

/// Runs the sides in turns and prints their medians (best and worst beside them), and how each stands to the first:
/// the median of the rounds' ratios.
pub fn compare(title: &str, rounds: Rounds, mut sides: Vec<Side<'_>>) {
    println!("\n{title}");
    println!("{:<34} {:>10} {:>17} {:>9} {:>7}", "", "k rec/CPU-s", "worst..best", "µs/rec", "ratio");
    let mut times: Vec<Vec<f64>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds.0 {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            (side.prepare)();
            let before = cpu_time();
            (side.run)();
            let took = cpu_time() - before;
            if round > 0 {
                times.push(took.as_secs_f64() / side.records as f64);
            }
        }
    }
    for (side, of_side) in sides.iter().zip(&times) {
        let ratios = times[0].iter().zip(of_side).map(|(first, this)| first / this);
        let (per_record, ratio) = (median(of_side.iter().copied()), median(ratios));
        let best = of_side.iter().copied().fold(f64::INFINITY, f64::min);
        let worst = of_side.iter().copied().fold(0.0, f64::max);
        println!(
            "{:<34} {:>10.0} {:>8.0}..{:<8.0} {:>8.3} {:>7.2}",
            side.name,
            1e-3 / per_record,
            1e-3 / worst,
            1e-3 / best,
            per_record * 1e6,
            ratio,
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// User and system time of all threads of this process.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock").into()
}
