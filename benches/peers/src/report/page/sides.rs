//! Whose row it is, which decides how it is drawn and what it is compared with.

use super::super::{Row, Sheet, Spread};

/// The server that every `of gen` is relative to.
pub const LIMIT_SERVER: &str = "raw_uring";

/// From this payload on, a request is mostly copying.
const COPYING: usize = 16 * 1024;

/// In the order of the charts: what is possible, greenring, everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// A server written for the measurement alone.
    HandWritten,
    Greenring,
    /// Another runtime, or none: OS threads.
    Runtime,
}

impl Side {
    pub fn of(server: &str) -> Self {
        if server.starts_with("greenring") {
            Self::Greenring
        } else if server.starts_with("raw") {
            Self::HandWritten
        } else {
            Self::Runtime
        }
    }
}

/// Copying costs the generator as much as the server, so its CPU time is no
/// measure of the machine's speed there, and `of gen` says little.
pub fn is_copying(sheet: &Sheet) -> bool {
    sheet.payload >= COPYING
}

/// The sheet's rows, side by side; within a side as they were measured.
pub fn by_side(sheet: &Sheet) -> Vec<&Row> {
    let mut rows: Vec<&Row> = sheet.rows.iter().collect();
    rows.sort_by_key(|row| Side::of(&row.server));
    rows
}

/// The spread, if it was measured: a server that was refused has no figures,
/// and without the limit's own row nothing is relative to it.
pub fn measured<'a>(row: &Row, spread: &'a Spread) -> Option<&'a Spread> {
    let exists = row.refused.is_none() && !spread.rounds.is_empty() && spread.median.is_finite();
    exists.then_some(spread)
}

/// The row of one side with the lowest figure, and that figure.
pub fn lowest(
    sheet: &Sheet,
    side: Side,
    figure: impl Fn(&Row) -> Option<f64>,
) -> Option<(&Row, f64)> {
    sheet
        .rows
        .iter()
        .filter(|row| Side::of(&row.server) == side)
        .filter_map(|row| Some((row, figure(row)?)))
        .min_by(|left, right| left.1.total_cmp(&right.1))
}
