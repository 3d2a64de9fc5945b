//! The shipped contracts with as many windows as a profile has.
//!
//! Fewer: each stream's first ones stay. More: each stream gets copies of its first window with other sizes, in turn;
//! they cost what windows cost, and only the shipped ones are held against the rows at the end.

use anyhow::{Context, ensure};
use pintail::demo::Kind;
use pintail::demo::contracts::shipped;

use super::profile::Profile;
use crate::windows::{SHIPPED, Window};

const WINDOW: &str = "[[window]]";
const EVERY: &str = "every = \"1m\"";

/// A stream's contract.
pub fn contract(profile: &Profile, kind: Kind) -> anyhow::Result<String> {
    let (file, text) = shipped(kind);
    let mut blocks = text.split(WINDOW);
    let mut contract = blocks.next().unwrap_or_default().to_owned();
    let blocks: Vec<&str> = blocks.collect();
    let (kept, more) = share(profile, kind);
    for block in &blocks[..kept] {
        contract.push_str(WINDOW);
        contract.push_str(block);
    }
    for copy in 0..more {
        let (first, name) = (blocks[0], SHIPPED.iter().find(|window| window.kind == kind).context("a window")?.name);
        ensure!(first.contains(EVERY) && first.contains(name), "{file}: its first window is not {name} of a minute");
        let copied = first.replacen(name, &format!("{name}_{}", copy + 2), 1);
        let other = copied.replacen(EVERY, &format!("every = \"{}m\"", copy + 2), 1);
        contract.push_str(&format!("\n{WINDOW}{other}"));
    }
    Ok(contract)
}

/// The shipped windows that are kept.
pub fn windows_of(profile: &Profile) -> Vec<Window> {
    let of = |kind| SHIPPED.into_iter().filter(move |window| window.kind == kind);
    profile.kinds().into_iter().flat_map(|kind| of(kind).take(share(profile, kind).0)).collect()
}

/// How many of a stream's own windows it keeps, and how many copies it gets.
fn share(profile: &Profile, kind: Kind) -> (usize, usize) {
    let (kinds, mut left) = (profile.kinds(), profile.windows);
    let own = |kind| SHIPPED.iter().filter(|window| window.kind == kind).count();
    let mut shares = [(0, 0); 3];
    loop {
        let before = left;
        for kind in kinds.iter().copied() {
            if left > 0 && shares[kind as usize].0 < own(kind) {
                shares[kind as usize].0 += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    for at in 0..left as usize {
        shares[kinds[at % kinds.len()] as usize].1 += 1;
    }
    shares[kind as usize]
}

#[cfg(test)]
mod tests {
    use pintail::toml_doc::Problems;

    use super::*;

    fn names(windows: u32, streams: [f64; 3]) -> Vec<String> {
        let mut profile = Profile::load("canonical").unwrap();
        (profile.windows, profile.streams) = (windows, streams);
        let names = profile.kinds().into_iter().flat_map(|kind| {
            let problems = Problems::default();
            let parsed = pintail::contract::parse("c.toml", contract(&profile, kind).unwrap(), &problems);
            let contract = parsed.unwrap_or_else(|| panic!("{}", problems.into_result().unwrap_err()));
            contract.windows.iter().map(|window| window.name.clone()).collect::<Vec<_>>()
        });
        names.collect()
    }

    #[test]
    fn there_are_as_many_windows_as_were_asked_for_and_contracts_stay_valid() {
        for count in [0, 1, 2, 4, 5, 6, 20] {
            assert_eq!(names(count, [1.0; 3]).len(), count as usize, "{count}");
            assert_eq!(names(count, [1.0, 0.0, 0.0]).len(), count as usize, "{count}");
        }
        let five = names(5, [1.0; 3]);
        assert!(SHIPPED.iter().all(|window| five.iter().any(|name| name == window.name)), "{five:?}");
        let pins = names(4, [1.0, 0.0, 0.0]);
        assert_eq!(pins, ["pins_by_category", "pins_by_media_type", "pins_by_category_2", "pins_by_category_3"]);
    }
}
