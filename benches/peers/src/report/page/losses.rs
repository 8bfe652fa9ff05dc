//! Where greenring loses: computed, so that nobody chooses.

use super::super::{Report, Row, Sheet, Spread};
use super::sides::{self, Side};

/// A figure of which less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    OfGen,
    /// Microseconds, where `of gen` says little.
    Copying,
    Latency,
    Memory,
}

/// A server whose figure is below that of greenring's best row on a sheet.
#[derive(Debug)]
pub struct Loss<'a> {
    pub sheet: &'a Sheet,
    pub row: &'a Row,
    pub theirs: f64,
    /// greenring's best row there.
    pub best: &'a Row,
    pub ours: f64,
    /// The quartiles of the two overlap: another run may say otherwise.
    pub is_close: bool,
}

impl Measure {
    /// What a request costs on a sheet.
    pub fn cost(sheet: &Sheet) -> Self {
        if sides::is_copying(sheet) {
            Self::Copying
        } else {
            Self::OfGen
        }
    }

    fn applies(self, sheet: &Sheet) -> bool {
        self != Self::Copying || sides::is_copying(sheet)
    }

    fn spread(self, row: &Row) -> Option<&Spread> {
        match self {
            Self::OfGen => sides::measured(row, &row.of_gen),
            Self::Copying => sides::measured(row, &row.cpu_us_per_request),
            Self::Latency => sides::measured(row, &row.latency_us.p99),
            Self::Memory => None,
        }
    }

    /// What is compared; nothing if it was not measured.
    pub fn figure(self, row: &Row) -> Option<f64> {
        match self {
            Self::Memory => row
                .rss_per_idle_connection
                .filter(|value| value.is_finite()),
            _ => self.spread(row).map(|spread| spread.median),
        }
    }
}

/// Every sheet and every server of a side that is below greenring's best row
/// there, in the order of the report.
pub fn find(report: &Report, measure: Measure, side: Side) -> Vec<Loss<'_>> {
    let mut losses = Vec::new();
    for sheet in report.sheets.iter().filter(|sheet| measure.applies(sheet)) {
        let figure = |row: &Row| measure.figure(row);
        let Some((best, ours)) = sides::lowest(sheet, Side::Greenring, figure) else {
            continue;
        };
        for row in &sheet.rows {
            let theirs = measure.figure(row).filter(|theirs| *theirs < ours);
            if let Some(theirs) = theirs.filter(|_| Side::of(&row.server) == side) {
                let is_close = measure
                    .spread(row)
                    .zip(measure.spread(best))
                    .is_some_and(|(theirs, ours)| theirs.upper >= ours.lower);
                losses.push(Loss {
                    sheet,
                    row,
                    theirs,
                    best,
                    ours,
                    is_close,
                });
            }
        }
    }
    losses
}

/// Sheets on which greenring and somebody of a side can be compared.
pub fn comparable(report: &Report, measure: Measure, side: Side) -> usize {
    let has =
        |sheet: &&Sheet, side| sides::lowest(sheet, side, |row| measure.figure(row)).is_some();
    let sheets = report.sheets.iter();
    sheets
        .filter(|sheet| measure.applies(sheet))
        .filter(|sheet| has(sheet, Side::Greenring) && has(sheet, side))
        .count()
}
