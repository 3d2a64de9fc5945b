//! Keeping the tables in shape.

mod actions;
mod checkpoint;
mod choose;
mod compact;
mod input;
mod upload;

#[cfg(test)]
mod tests;

/// When something is worth doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaintenanceOptions {
    /// Commits after which a table's log gets a checkpoint.
    pub checkpoint_commits: u64,
    /// Small files of one day and of like size that are made one.
    pub compact_files: usize,
    /// What a file should grow to.
    pub target_file_bytes: u64,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self { checkpoint_commits: 100, compact_files: 16, target_file_bytes: 128 << 20 }
    }
}
