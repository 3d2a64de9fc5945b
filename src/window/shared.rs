//! What the windows of a stream have in common over one batch: starts, keys and numbers of its rows, the groups that
//! they make and what is measured of each group, all worked out once, however many windows ask for it. Twenty windows
//! over three columns look at three columns; and since a batch mostly lies in one minute, the windows of a minute, an
//! hour and a day by the same keys have the same groups.

use std::rc::Rc;

use deltalake::arrow::array::ArrayRef;

use super::cell::Measure;
use super::group::{Grouping, Keys, Numbered, integers};
use crate::contract::window::{Function, KeyPlan};
use crate::contract::{ColumnType, EventTime};

/// The integers of a column, row by row.
type Integers = Rc<[Option<i64>]>;

/// Numbers of groups or of keys, row by row; the same ones if they are in the same place.
type Numbers = Rc<[u32]>;

/// Groups of so many rows each at least, on average, are worth keeping what was measured of them: of more groups, the
/// copies cost as much as measuring anew.
const ROWS_A_GROUP: usize = 8;

/// A function of each of the groups that these numbers of the rows make. Which record is first depends on the time.
type Measured = (Numbers, EventTime, Function);

/// Of some rows; other rows need another.
#[derive(Debug, Default)]
pub struct Shared {
    starts: Vec<((EventTime, i64), Grouping)>,
    keys: Vec<(KeyPlan, Rc<Keys>)>,
    integers: Vec<((usize, ColumnType), Integers)>,
    /// Groups and keys, each by the numbers of their rows, and what they make together.
    pairs: Vec<((Numbers, Numbers), Numbered)>,
    records: Vec<(Numbers, Rc<[u64]>)>,
    measured: Vec<(Measured, Rc<[Measure]>)>,
}

impl Shared {
    /// The rows by window start. `times_us` are their times of this kind.
    pub fn starts(&mut self, time: EventTime, every_us: i64, times_us: &[i64]) -> Grouping {
        if let Some((_, known)) = self.starts.iter().find(|(of, _)| *of == (time, every_us)) {
            return known.clone();
        }
        let grouping = Grouping::by_start(times_us, every_us);
        self.starts.push(((time, every_us), grouping.clone()));
        grouping
    }

    /// The rows' values of a key. `None` if the column is not what the plan says.
    pub fn keys(&mut self, plan: &KeyPlan, column: &ArrayRef) -> Option<Rc<Keys>> {
        let is_same = |known: &KeyPlan| known.column == plan.column && known.derive == plan.derive;
        if let Some((_, known)) = self.keys.iter().find(|(of, _)| is_same(of)) {
            return Some(Rc::clone(known));
        }
        let keys = Rc::new(Keys::of(plan, column)?);
        self.keys.push((plan.clone(), Rc::clone(&keys)));
        Some(keys)
    }

    /// The groups, split by one more key of the same rows.
    pub fn refine(&mut self, grouping: Grouping, keys: &Keys) -> Grouping {
        if grouping.groups.len() == 1 {
            return grouping.refine(keys, Numbered::by_one_group);
        }
        let of = (Rc::clone(&grouping.by_row), Rc::clone(&keys.by_row));
        let known = self.pairs.iter().find(|(known, _)| Rc::ptr_eq(&known.0, &of.0) && Rc::ptr_eq(&known.1, &of.1));
        match known {
            Some((_, known)) => grouping.refine(keys, |_, _| known.clone()),
            None => grouping.refine(keys, |grouping, keys| {
                let numbered = Numbered::of_pairs(grouping, keys);
                self.pairs.push((of, numbered.clone()));
                numbered
            }),
        }
    }

    /// How many rows each of the groups has.
    pub fn records(&mut self, grouping: &Grouping) -> Rc<[u64]> {
        if let Some((_, known)) = self.records.iter().find(|(of, _)| Rc::ptr_eq(of, &grouping.by_row)) {
            return Rc::clone(known);
        }
        let mut records = vec![0; grouping.groups.len()];
        for group in &*grouping.by_row {
            records[*group as usize] += 1;
        }
        let records: Rc<[u64]> = records.into();
        self.records.push((Rc::clone(&grouping.by_row), Rc::clone(&records)));
        records
    }

    /// What was measured of each of the groups before, if it was and is kept.
    pub fn measured(&self, grouping: &Grouping, time: EventTime, function: Function) -> Option<Vec<Measure>> {
        let is_same = |of: &Measured| (of.1, of.2) == (time, function) && Rc::ptr_eq(&of.0, &grouping.by_row);
        self.measured.iter().find(|(of, _)| is_same(of)).map(|(_, known)| known.to_vec())
    }

    /// Keeps what was measured of each of the groups for the windows to come.
    pub fn keep(&mut self, grouping: &Grouping, time: EventTime, function: Function, measured: &[Measure]) {
        if measured.len() * ROWS_A_GROUP <= grouping.by_row.len() {
            self.measured.push(((Rc::clone(&grouping.by_row), time, function), measured.into()));
        }
    }

    /// Integers, timestamps (us) or dates (days) of the column at `index`. `None` if it is not of that type.
    pub fn integers(&mut self, source: ColumnType, index: usize, column: &ArrayRef) -> Option<Integers> {
        if let Some((_, known)) = self.integers.iter().find(|(of, _)| *of == (index, source)) {
            return Some(Rc::clone(known));
        }
        let values: Integers = integers(source, column)?.into();
        self.integers.push(((index, source), Rc::clone(&values)));
        Some(values)
    }
}
