//! What goes wrong again and again is logged when it begins, then more and more seldom, and once when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

/// It is logged again after this time, then after twice as long, and so on.
const TELL_INTERVAL: Duration = Duration::from_secs(30);
/// Never more seldom than this.
const TELL_INTERVAL_MAX: Duration = Duration::from_secs(30 * 60);

/// So many causes of one trouble are news. Causes that take turns are not, for ever.
const CAUSES_MAX: usize = 8;

/// One trouble.
#[derive(Debug, Default)]
pub struct Tell {
    /// When it was logged last, and how long it is to be silent since.
    last: Option<(Instant, Duration)>,
    causes: BTreeSet<String>,
}

impl Tell {
    /// It went wrong once more. Whether to log that.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let silence = match self.last {
            None => TELL_INTERVAL,
            Some((last, silence)) if now >= last + silence => (silence * 2).min(TELL_INTERVAL_MAX),
            Some(_) => return false,
        };
        self.last = Some((now, silence));
        true
    }

    /// The same, and another cause is news at once.
    pub fn is_news(&mut self, why: &str, now: Instant) -> bool {
        let is_other = self.causes.len() < CAUSES_MAX && self.causes.insert(cause(why));
        self.is_due(now) || is_other
    }

    /// It works. Whether to log that: not if it did before.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(self).last.is_some()
    }
}

/// What stays the same from attempt to attempt: ids of requests, versions, times and sizes have digits.
fn cause(why: &str) -> String {
    let words = why.split(|c: char| c.is_whitespace() || c == '<' || c == '>');
    let lasting = words.filter(|word| !word.is_empty() && !word.contains(|c: char| c.is_ascii_digit()));
    lasting.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_a_day_is_told_some_fifty_times_however_often_it_is_met() {
        let (mut tell, began) = (Tell::default(), Instant::now());
        let attempts = (0..24 * 60 * 60).map(|second| began + Duration::from_secs(second));
        let told: Vec<Duration> = attempts.filter(|now| tell.is_due(*now)).map(|now| now - began).collect();
        assert_eq!(told[..4], [0, 30, 90, 210].map(Duration::from_secs));
        assert!((40..60).contains(&told.len()), "{}", told.len());
    }

    fn denied(code: &str, attempt: u64) -> String {
        format!(
            "read w/_delta_log/{attempt:020}.json: status 4{attempt:02}: <Error><Code>{code}</Code>\
             <RequestId>4442587FB7D0A2F{attempt}</RequestId><HostId>MzRISO{attempt}+jmnup=</HostId></Error>"
        )
    }

    #[test]
    fn another_cause_is_news_and_another_request_is_not() {
        let (mut tell, now) = (Tell::default(), Instant::now());
        let told: Vec<u64> = (0..90).filter(|nth| tell.is_news(&denied("NoSuchBucket", *nth), now)).collect();
        assert_eq!(told, [0]);
        assert!(tell.is_news(&denied("AccessDenied", 90), now));
        assert!(!tell.is_news(&denied("NoSuchBucket", 91), now), "it was told before");
    }

    #[test]
    fn causes_without_end_are_not_news_without_end() {
        let (mut tell, now) = (Tell::default(), Instant::now());
        let causes = ('a'..='z').map(|letter| format!("file {letter} is gone"));
        assert_eq!(causes.filter(|why| tell.is_news(why, now)).count(), CAUSES_MAX);
    }

    #[test]
    fn the_end_is_told_once_and_the_next_beginning_is_news() {
        let (mut tell, now) = (Tell::default(), Instant::now());
        assert!(!tell.is_over(), "nothing was wrong");
        assert!(tell.is_news("denied", now) && !tell.is_news("denied", now));
        assert!(tell.is_over() && !tell.is_over());
        assert!(tell.is_news("denied", now));
    }
}
