//! Maintenance against crashes between its steps, other compactors, and the writers it runs beside.

mod checkpoints;

use crate::lake::error::LakeError;
use crate::lake::log::read_table;
use crate::lake::tests::{Lake, ROWS, batch, ending, micro, quiet};
use crate::record::ShardGrant;
