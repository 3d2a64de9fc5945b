//! Steps that failed: what was wrong, and when they are tried again.
//!
//! A failure is the table's state until its step has worked, also at looks that do not try it: otherwise a table that
//! cannot be looked after would be well most of the time. Each failure in a row doubles the wait before the next try,
//! so that a file that is gone for good costs a look an hour and not one a minute.

use std::collections::BTreeMap;

use super::Step;
use crate::lake::moment::Moment;
use crate::limits::{MAINTENANCE_RETRY_MS_MAX, MAINTENANCE_RETRY_MS_MIN};

/// The steps of one table that failed the last time.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Step, Trouble>);

#[derive(Debug)]
struct Trouble {
    reason: String,
    /// Told, in a row.
    failures: u32,
    at: Moment,
    is_partial: bool,
}

impl Trouble {
    fn is_over(&self, now: Moment) -> bool {
        let doublings = (self.failures - 1).min(16);
        now.ms_since(self.at) >= (MAINTENANCE_RETRY_MS_MIN << doublings).min(MAINTENANCE_RETRY_MS_MAX)
    }
}

impl Troubles {
    /// Whether to try a step: one that failed when it has waited long enough, any other when it is wanted, and so is
    /// one that only a part of its work was lacking.
    pub fn allow(&self, step: Step, wanted: bool, now: Moment) -> bool {
        self.0.get(&step).map_or(wanted, |trouble| trouble.is_over(now) || (wanted && trouble.is_partial))
    }

    /// A step failed, or did only a part of its work. Returns whether that is news: not if it said the same within
    /// its wait.
    pub fn failed(&mut self, step: Step, reason: String, is_partial: bool, at: Moment) -> bool {
        let before = self.0.get(&step);
        let is_news = before.is_none_or(|before| before.reason != reason || before.is_over(at));
        if is_news {
            let failures = before.map_or(0, |before| before.failures).saturating_add(1);
            self.0.insert(step, Trouble { reason, failures, at, is_partial });
        }
        is_news
    }

    /// A step worked.
    pub fn worked(&mut self, step: Step) {
        self.0.remove(&step);
    }

    /// What is wrong, if anything is.
    pub fn told(&self) -> Option<String> {
        let told = self.0.iter().map(|(step, trouble)| format!("{}: {}", step.as_str(), trouble.reason));
        Some(told.collect::<Vec<_>>().join("; ")).filter(|told| !told.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Moment {
        Moment { wall_ms: minutes * 60_000, boot_ms: 0 }
    }

    #[test]
    fn each_failure_in_a_row_doubles_the_wait_up_to_an_hour_and_one_success_forgets_them() {
        let mut troubles = Troubles::default();
        let mut now = 0;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            troubles.failed(Step::Vacuum, "denied".to_owned(), false, at(now));
            assert!(!troubles.allow(Step::Vacuum, true, at(now + minutes - 1)), "{minutes}");
            now += minutes;
            assert!(troubles.allow(Step::Vacuum, false, at(now)), "{minutes}");
        }
        assert!(troubles.allow(Step::Cleanup, true, at(0)) && !troubles.allow(Step::Cleanup, false, at(0)));
        assert_eq!(troubles.told().as_deref(), Some("vacuum: denied"));
        troubles.worked(Step::Vacuum);
        assert_eq!(troubles.told(), None);
        troubles.failed(Step::Vacuum, "denied".to_owned(), false, at(now));
        assert!(troubles.allow(Step::Vacuum, true, at(now + 1)));
    }

    #[test]
    fn a_step_that_did_its_work_in_part_goes_on_when_there_is_more_and_says_the_same_only_now_and_then() {
        let mut troubles = Troubles::default();
        let fails = |troubles: &mut Troubles, reason: &str, minute| {
            troubles.failed(Step::Compaction, reason.to_owned(), true, at(minute))
        };
        assert!(fails(&mut troubles, "x is gone", 0));
        assert!(troubles.allow(Step::Compaction, true, at(0)) && !troubles.allow(Step::Compaction, false, at(0)));
        assert!(!fails(&mut troubles, "x is gone", 0));
        assert!(fails(&mut troubles, "x and y are gone", 0));
        assert!(!fails(&mut troubles, "x and y are gone", 1));
        assert!(fails(&mut troubles, "x and y are gone", 2));
    }
}
