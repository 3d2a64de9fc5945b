//! The wall clock, in one place. Rooms are handed times as values; only tasks at the edges ask.

/// Microseconds of a day, as calendars and Unix time count them: leap seconds do not exist.
pub const DAY_US: i64 = 86_400_000_000;

/// Milliseconds since 1970-01-01T00:00Z.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
