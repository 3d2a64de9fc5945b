//! What the windows of a stream have in common over one batch: starts, keys and numbers of its rows, each worked out
//! once, however many windows ask for it. Twenty windows over three columns look at three columns.

use std::rc::Rc;

use deltalake::arrow::array::ArrayRef;

use super::group::{Grouping, Keys, integers};
use crate::contract::window::KeyPlan;
use crate::contract::{ColumnType, EventTime};

/// The integers of a column, row by row.
type Integers = Rc<[Option<i64>]>;

/// Of some rows; other rows need another.
#[derive(Debug, Default)]
pub struct Shared {
    starts: Vec<((EventTime, i64), Grouping)>,
    keys: Vec<(KeyPlan, Rc<Keys>)>,
    integers: Vec<((usize, ColumnType), Integers)>,
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
