//! The tables of the page: all figures of a sheet, the goals, the losses.

use maud::{Markup, html};

use super::super::{Goal, Report, Row, Sheet, Spread};
use super::figures::{self, MISSING};
use super::losses::{self, Loss, Measure};
use super::sides::{self, Side};

/// Columns of a sheet's table beside the server's name.
const FIGURES: &str = "10";

/// Every figure of a sheet, with the quartiles beneath the medians.
pub fn sheet(sheet: &Sheet) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "server" }
                th { "µs per request" }
                th { "of gen" }
                th { "requests/s" }
                th { "p50 µs" }
                th { "p99 µs" }
                th { "p99.9 µs" }
                th { "memory, MiB" }
                th { "per idle connection" }
                th { "enters per request" }
                th { "errors" }
            } }
            tbody {
                @for row in sides::by_side(sheet) { (server(row)) }
            }
        } }
    }
}

fn server(row: &Row) -> Markup {
    let is_ours = Side::of(&row.server) == Side::Greenring;
    html! {
        tr.ours[is_ours] {
            th { (row.server) @if !row.version.is_empty() { small { (row.version) } } }
            @if let Some(reason) = &row.refused {
                td.reason.bad colspan=(FIGURES) { "refused: " (reason) }
            } @else {
                (spread(row, &row.cpu_us_per_request, figures::microseconds))
                (spread(row, &row.of_gen, figures::ratio))
                (spread(row, &row.requests_per_second, figures::grouped))
                (spread(row, &row.latency_us.p50, figures::microseconds))
                (spread(row, &row.latency_us.p99, figures::microseconds))
                (spread(row, &row.latency_us.p999, figures::microseconds))
                td { (figures::or_missing(Some(row.rss_mib), |mib| format!("{mib:.1}"))) }
                td { (figures::or_missing(row.rss_per_idle_connection, figures::bytes)) }
                td { (figures::or_missing(row.enters_per_request, |enters| format!("{enters:.3}"))) }
                td.bad[row.errors > 0] { (figures::grouped(row.errors as f64)) }
            }
        }
    }
}

/// Quartiles are shown where they say something: of more rounds than one.
fn spread(row: &Row, spread: &Spread, format: fn(f64) -> String) -> Markup {
    let Some(spread) = sides::measured(row, spread) else {
        return html! { td { (MISSING) } };
    };
    html! {
        td {
            (format(spread.median))
            @if spread.rounds.len() > 1 {
                small { (format(spread.lower)) "–" (format(spread.upper)) }
            }
        }
    }
}

/// What is asked, and what was measured.
pub fn goals(goals: &[Goal]) -> Markup {
    if goals.is_empty() {
        return html! { p { "This run did not measure any goal." } };
    }
    let met = goals.iter().filter(|goal| goal.met).count();
    html! {
        p { (met) " of " (goals.len()) " are met." }
        div.scroll { table {
            thead { tr { th { "goal" } th { "at most" } th { "measured" } } }
            tbody {
                @for goal in goals {
                    tr {
                        td { (goal.row) }
                        td { (figures::ratio(goal.limit)) }
                        td {
                            @if !goal.measured.is_finite() { "not measured" }
                            @else {
                                (figures::precise_ratio(goal.measured)) " "
                                @if goal.met { span.good { "met" } }
                                @else { span.bad { "not met" } }
                            }
                        }
                    }
                }
            }
        } }
    }
}

/// Who is below greenring's best row, sheet by sheet.
pub fn losses(report: &Report, measure: Measure) -> Markup {
    let standings = losses::standings(report, measure);
    if standings.is_empty() {
        return html! { p { "Nothing to compare was measured." } };
    }
    let format = match measure {
        Measure::OfGen => figures::ratio,
        Measure::Copying | Measure::Latency => figures::time,
        Measure::Memory => figures::bytes,
    };
    html! {
        div.scroll { table.wordy {
            thead { tr {
                th { "sheet" }
                th { "greenring’s best" }
                th { "runtimes below it" }
                th { "by hand, below it" }
            } }
            tbody {
                @for standing in &standings {
                    tr {
                        td { (standing.sheet.name) }
                        td { (format(standing.ours)) small { (standing.best.server) } }
                        td { (below(standing.losses_to(Side::Runtime), format)) }
                        td { (below(standing.losses_to(Side::HandWritten), format)) }
                    }
                }
            }
        } }
    }
}

fn below<'a, 'b: 'a>(
    losses: impl Iterator<Item = &'a Loss<'b>>,
    format: fn(f64) -> String,
) -> Markup {
    let losses: Vec<_> = losses.collect();
    html! {
        @if losses.is_empty() { "none" }
        @for loss in losses {
            div {
                (loss.server) " " b { (format(loss.theirs)) }
                @if loss.is_close { " " span.muted { "close" } }
            }
        }
    }
}
