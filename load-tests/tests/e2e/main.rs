//! The end-to-end tests, in one program: linking one costs more than most of them.

mod aggregates;
mod bad_config;
mod chaos;
mod contract_changes;
mod crash_points;
mod credentials;
mod endpoints_away;
mod harness;
mod http;
mod kinesis_faults;
mod lake_on_s3;
mod lake_trouble;
mod places;
mod recreated;
mod replay;
mod replay_range;
mod reshard_under_load;
mod resharding;
mod retention;
mod s3_faults;
mod sealing;
mod stall;
mod two_instances;
mod watching;
mod whole_path;
mod zombies;
