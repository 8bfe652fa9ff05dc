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

/// What greenring's best row on a sheet has, and who has less.
#[derive(Debug)]
pub struct Standing<'a> {
    pub sheet: &'a Sheet,
    pub best: &'a Row,
    pub ours: f64,
    /// In the order of the report.
    pub losses: Vec<Loss<'a>>,
}

/// A server whose figure is below that of greenring's best row.
#[derive(Debug)]
pub struct Loss<'a> {
    pub server: &'a str,
    pub theirs: f64,
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

/// Every sheet on which greenring has a figure and another server too, in the
/// order of the report.
pub fn standings(report: &Report, measure: Measure) -> Vec<Standing<'_>> {
    let sheets = report.sheets.iter();
    sheets
        .filter(|sheet| measure.applies(sheet))
        .filter_map(|sheet| standing(sheet, measure))
        .collect()
}

fn standing(sheet: &Sheet, measure: Measure) -> Option<Standing<'_>> {
    let (best, ours) = sides::lowest(sheet, Side::Greenring, |row| measure.figure(row))?;
    let others = sheet
        .rows
        .iter()
        .filter(|row| Side::of(&row.server) != Side::Greenring)
        .filter_map(|row| Some((row, measure.figure(row)?)));
    let others: Vec<(&Row, f64)> = others.collect();
    let is_close = |row| {
        let quartiles = measure.spread(row).zip(measure.spread(best));
        quartiles.is_some_and(|(theirs, ours)| theirs.upper >= ours.lower)
    };
    let losses = others.iter().filter(|(_, theirs)| *theirs < ours);
    let losses = losses.map(|&(row, theirs)| Loss {
        server: &row.server,
        theirs,
        is_close: is_close(row),
    });
    (!others.is_empty()).then(|| Standing {
        sheet,
        best,
        ours,
        losses: losses.collect(),
    })
}

impl<'a> Standing<'a> {
    /// The losses to one side.
    pub fn losses_to(&self, side: Side) -> impl Iterator<Item = &Loss<'a>> {
        self.losses
            .iter()
            .filter(move |loss| Side::of(loss.server) == side)
    }
}
