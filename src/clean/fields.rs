//! Where a record's tape holds the contract's fields: one walk over the object, no map, nothing allocated.

use simd_json::Node;

use super::Object;
use super::json::{Json, members, value};
use super::value::Fields;
use crate::contract::{FieldTable, SourceFields};
use crate::limits::SCRATCH_KEPT_BYTES;

/// Positions of fields in the tape of the record at hand. Reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Located {
    nodes: Vec<Option<usize>>,
    unknown: Vec<usize>,
}

/// The fields of one object as the parser found them.
#[derive(Debug, Clone, Copy)]
pub(super) struct TapeRecord<'a> {
    object: Object<'a>,
    located: &'a Located,
}

impl Located {
    /// Finds the fields of an object that is the whole tape. Of equal keys the last one counts.
    pub fn locate<'a>(&'a mut self, fields: &SourceFields, object: Object<'a>) -> TapeRecord<'a> {
        self.nodes.clear();
        self.nodes.resize(fields.len(), None);
        self.unknown.clear();
        self.walk(fields.top(), object, 0);
        TapeRecord { object, located: self }
    }

    /// Frees what an object of very many unknown keys needed.
    pub fn shrink(&mut self) {
        if self.scratch_bytes() > SCRATCH_KEPT_BYTES {
            *self = Self::default();
        }
    }

    /// What is held for the next record.
    pub fn scratch_bytes(&self) -> usize {
        self.unknown.capacity() * size_of::<usize>()
    }

    /// `at` is where the object begins. Goes only as deep as the contract's paths.
    fn walk(&mut self, table: &FieldTable, tape: Object<'_>, at: usize) {
        let Json::Object(inside) = value(tape.get(at..).unwrap_or(&[])) else { return };
        for (key, value_at) in members(inside) {
            let node = at + 1 + value_at;
            let Some(entry) = table.find(key) else {
                if at == 0 {
                    self.unknown.push(node - 1);
                }
                continue;
            };
            if let Some(field) = entry.field {
                self.nodes[field] = Some(node);
            }
            if !entry.inner.is_empty() {
                entry.inner.each_field(&mut |field| self.nodes[field] = None);
                self.walk(&entry.inner, tape, node);
            }
        }
    }
}

impl<'a> Fields<'a> for TapeRecord<'a> {
    fn get(self, field: usize) -> Option<Json<'a>> {
        let node = self.located.nodes.get(field).copied().flatten()?;
        self.object.get(node..).map(value)
    }

    fn unknown_names(self) -> impl Iterator<Item = &'a str> {
        self.located.unknown.iter().filter_map(move |at| match self.object.get(*at) {
            Some(Node::String(name)) => Some(*name),
            Some(Node::Static(_) | Node::Array { .. } | Node::Object { .. }) | None => None,
        })
    }
}
