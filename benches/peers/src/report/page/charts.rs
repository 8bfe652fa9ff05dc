//! Which charts a sheet has.

use super::super::{Row, Sheet, Spread};
use super::chart::{Axis, Chart, Line, Mark};
use super::figures::{self, MISSING};
use super::sides::{self, Side};

/// Ratios beyond this are cut off, so that the others can be told apart.
const HIGHEST_RATIO: f64 = 2.0;

/// What a server costs: by the generator's cost where that is a yardstick.
pub fn cost(sheet: &Sheet) -> Chart {
    let title = "CPU time per request".to_owned();
    if !sides::is_copying(sheet) {
        let subtitle = "of gen: 1.00 is the limit".to_owned();
        return ratio(sheet, title, subtitle, ratio_axis([sheet]));
    }
    let high = highest(sheet, |row| Some(&row.cpu_us_per_request));
    Chart {
        title,
        subtitle: "µs of the server".to_owned(),
        axis: Axis::Linear {
            high,
            tick: figures::short,
        },
        lines: lines(sheet, |row| {
            let spread = sides::measured(row, &row.cpu_us_per_request)?;
            Some((bar(spread), figures::microseconds(spread.median)))
        }),
    }
}

/// `of gen` on an axis that several charts may share.
pub fn ratio(sheet: &Sheet, title: String, subtitle: String, axis: Axis) -> Chart {
    Chart {
        title,
        subtitle,
        axis,
        lines: lines(sheet, |row| {
            let spread = sides::measured(row, &row.of_gen)?;
            Some((bar(spread), figures::ratio(spread.median)))
        }),
    }
}

/// An axis with room for all ratios of some sheets, up to the highest.
pub fn ratio_axis<'a>(sheets: impl IntoIterator<Item = &'a Sheet>) -> Axis {
    let (mut low, mut high) = (0.9_f64, 1.2_f64);
    for row in sheets.into_iter().flat_map(|sheet| &sheet.rows) {
        if let Some(spread) = sides::measured(row, &row.of_gen) {
            low = low.min(spread.lower.min(spread.median));
            high = high.max(spread.upper.max(spread.median));
        }
    }
    Axis::Ratio {
        low: ((low * 10.0).floor() / 10.0).max(0.0),
        high: ((high * 10.0).ceil() / 10.0).min(HIGHEST_RATIO),
    }
}

/// Latencies, whole decades.
pub fn latency(sheet: &Sheet) -> Chart {
    let of = |row: &Row| {
        let latency = &row.latency_us;
        let points = [&latency.p50, &latency.p99, &latency.p999]
            .map(|spread| sides::measured(row, spread).map(|spread| spread.median));
        let [Some(p50), Some(p99), Some(p999)] = points else {
            return None;
        };
        (p50 > 0.0).then_some([p50, p99, p999])
    };
    let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
    for [p50, _, p999] in sheet.rows.iter().filter_map(of) {
        low = low.min(p50);
        high = high.max(p999);
    }
    if low > high {
        (low, high) = (1.0, 1.0);
    }
    let low = 10_f64.powf(low.log10().floor());
    let high = 10_f64.powf(high.log10().ceil()).max(low * 10.0);
    Chart {
        title: "Latency".to_owned(),
        subtitle: "on the right p99".to_owned(),
        axis: Axis::Decades {
            low,
            high,
            tick: figures::decade,
        },
        lines: lines(sheet, |row| {
            let points = of(row)?;
            Some((Mark::Points(points), figures::time(points[1])))
        }),
    }
}

/// Memory that an idle connection holds, if any server's is known.
pub fn memory(sheet: &Sheet) -> Option<Chart> {
    let of = |row: &Row| {
        row.rss_per_idle_connection
            .filter(|bytes| bytes.is_finite())
    };
    let high = sheet.rows.iter().filter_map(of).reduce(f64::max)?;
    Some(Chart {
        title: sheet.name.clone(),
        subtitle: "resident memory of the server per idle connection, KiB".to_owned(),
        axis: Axis::Linear {
            high: (high / 1024.0).max(1.0) * 1.05,
            tick: figures::short,
        },
        lines: lines(sheet, |row| {
            let bytes = of(row)?;
            let kib = bytes / 1024.0;
            let bar = Mark::Bar {
                median: kib,
                lower: kib,
                upper: kib,
            };
            Some((bar, figures::bytes(bytes)))
        }),
    })
}

/// A line for each row; without a figure the reason.
fn lines(sheet: &Sheet, mark: impl Fn(&Row) -> Option<(Mark, String)>) -> Vec<Line> {
    sides::by_side(sheet)
        .into_iter()
        .map(|row| {
            let (mark, value) = mark(row).unwrap_or_else(|| {
                let reason = row.refused.as_deref().map_or_else(
                    || "not measured".to_owned(),
                    |reason| format!("refused: {reason}"),
                );
                (Mark::Missing(reason), MISSING.to_owned())
            });
            Line {
                server: row.server.clone(),
                side: Side::of(&row.server),
                value,
                mark,
            }
        })
        .collect()
}

fn bar(spread: &Spread) -> Mark {
    Mark::Bar {
        median: spread.median,
        lower: spread.lower,
        upper: spread.upper,
    }
}

/// The end of an axis from zero.
fn highest(sheet: &Sheet, figure: impl Fn(&Row) -> Option<&Spread>) -> f64 {
    let spreads = sheet
        .rows
        .iter()
        .filter_map(|row| sides::measured(row, figure(row)?));
    let highest = spreads.map(|spread| spread.upper.max(spread.median));
    highest.reduce(f64::max).unwrap_or(0.0).max(1.0) * 1.05
}
