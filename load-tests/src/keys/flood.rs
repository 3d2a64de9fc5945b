//! Records with as many keys as one likes, and the contract that counts by them.

use pintail::demo::Kind;
use pintail::demo::pinterest::{Action, Posting};

/// A window that stays open, whose sketches grow with every round.
pub const BY_DAY: &str = "posts_by_day";
/// A window that is sealed.
pub const BRIEF: &str = "posts_in_brief";

/// The key is `ind`; the second window is of so many seconds.
pub fn contract(brief_s: u64) -> String {
    CONTRACT.replace("BRIEF", &format!("\"{brief_s}s\""))
}

const CONTRACT: &str = r#"
table = "geo"
event_time = "arrival"

[[column]]
name = "ind"
type = "integer"
required = true

[[column]]
name = "country"
type = "string"

[[column]]
name = "round"
type = "integer"

[[window]]
name = "posts_by_day"
every = "1d"
by = ["ind"]
measure = { posts = "count", countries = "distinct(country)", round = "quantiles(round)", often = "top(country, 3)" }

[[window]]
name = "posts_in_brief"
every = BRIEF
grace = "2s"
by = ["ind"]
measure = { posts = "count", last_country = "last(country)" }
"#;

/// Every key once a round, so that a key comes back when it is long out of sight.
#[derive(Debug)]
pub struct Flood {
    keys: u32,
    rounds: u8,
    round: u8,
    key: u32,
}

impl Flood {
    pub fn new(keys: u32, rounds: u8) -> Self {
        Self { keys, rounds, round: 0, key: 0 }
    }
}

impl Iterator for Flood {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        if self.key == self.keys {
            (self.key, self.round) = (0, self.round + 1);
        }
        if self.round == self.rounds || self.keys == 0 {
            return None;
        }
        let (ind, round) = (self.key, self.round);
        self.key += 1;
        let data = format!("{{\"ind\":{ind},\"country\":\"c{round}\",\"round\":{round}}}").into_bytes();
        Some(Action { sleep_s: 0, row: ind, postings: vec![Posting { kind: Kind::Geo, ind, key: ind, data }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_a_round() {
        let inds: Vec<u32> = Flood::new(3, 2).map(|action| action.postings[0].ind).collect();
        assert_eq!(inds, [0, 1, 2, 0, 1, 2]);
        assert_eq!(Flood::new(0, 2).count(), 0);
    }
}
