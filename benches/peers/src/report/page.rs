//! The page: one self-contained HTML file drawn from a report, without scripts
//! and without anything that would have to be fetched. For a screen, a phone and
//! a printer; light or dark as the reader's system is.
//!
//! What is said about the figures is computed from them.

mod chart;
mod charts;
mod figures;
mod losses;
mod palette;
mod pen;
mod sides;
mod summary;
mod tables;
#[cfg(test)]
mod tests;

use std::io;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::chart::Chart;
use self::losses::Measure;
use self::sides::Side;
use super::{Report, Sheet};

pub use self::summary::{svg as summary_svg, table as summary_table};

/// Draws the page.
///
/// # Errors
///
/// A chart cannot be drawn.
pub fn render(report: &Report) -> io::Result<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "greenring beside its peers" }
                style { (PreEscaped(palette::style_sheet())) (PreEscaped(include_str!("page/style.css"))) }
            }
            body {
                (introduction(report))
                (at_a_glance(report)?)
                h2 id="goals" { "Goals" }
                (tables::goals(&report.goals))
                (where_it_loses(report))
                (all_sheets(report)?)
                (memory(report)?)
                (origin(report))
            }
        }
    };
    Ok(page.into_string())
}

fn introduction(report: &Report) -> Markup {
    html! {
        h1 { "greenring beside its peers" }
        p.muted { (report.date) " · " (report.machine.cpu) " · kernel " (report.machine.kernel) }
        p {
            "Servers that send back what they receive, each a process of its own, are loaded by the
             same generator on the same CPU; the two take turns. Most of the time of a request
             is the kernel’s, whoever asks for it, so what is compared is the CPU time of the server’s
             process per request. The machine’s speed drifts; "
            b { "of gen" }
            " cancels that: the server’s CPU time per request over the generator’s in the same round,
             divided by the same figure of " code { (sides::LIMIT_SERVER) } ", a server written by
             hand on io_uring. "
            b { "1.00 is the limit, less is better" }
            ", and a difference of 0.03 is noise. A server that wakes the generator for every reply, as an
             OS thread per connection does, makes the generator dearer and looks better than it is.
             Figures are medians of " (report.rounds)
            " interleaved rounds of " (report.seconds) " s; whiskers and ranges are quartiles. The load
             is closed: each connection waits for its reply before it sends again, so latency is
             mostly the queue, and falls as the server gets cheaper."
        }
        nav { ul {
            li { a href="#glance" { "At a glance" } }
            li { a href="#goals" { "Goals" } }
            li { a href="#losses" { "Where greenring loses" } }
            li { a href="#sheets" { "All sheets" } }
            li { a href="#memory" { "Memory" } }
            li { a href="#origin" { "Machine and command" } }
        } }
    }
}

fn at_a_glance(report: &Report) -> io::Result<Markup> {
    let charts = summary::charts(report);
    Ok(html! {
        h2 id="glance" { "At a glance: 64 bytes, more and more connections" }
        @if charts.is_empty() {
            p { "This run has no sheet of single requests of 64 bytes." }
        } @else {
            p {
                "Bars begin at the limit and share one scale: to the right a server is dearer than "
                code { (sides::LIMIT_SERVER) } ", to the left cheaper."
            }
            div.charts {
                @for chart in &charts { (figure("CPU per request, of gen", chart)?) }
            }
        }
    })
}

fn where_it_loses(report: &Report) -> Markup {
    html! {
        h2 id="losses" { "Where greenring loses" }
        p {
            "Sheet by sheet, the lowest figure of a row of greenring, and every server with a lower
             one. Close: the quartiles overlap, and another run may say otherwise."
        }
        h3 { "CPU per request, of gen" }
        (tables::losses(report, Measure::OfGen))
        h3 { "CPU per request where requests are mostly copying" }
        p { "The generator copies as much as the server there, and of gen says little." }
        (tables::losses(report, Measure::Copying))
        h3 { "p99 latency" }
        (tables::losses(report, Measure::Latency))
        h3 { "Memory per idle connection" }
        (tables::losses(report, Measure::Memory))
    }
}

fn all_sheets(report: &Report) -> io::Result<Markup> {
    Ok(html! {
        h2 id="sheets" { "All sheets" }
        @if report.sheets.is_empty() { p { "Nothing was measured." } }
        @for sheet in &report.sheets {
            section {
                h3 { (sheet.name) }
                @if sheet.rows.is_empty() {
                    p { "No server was measured." }
                } @else {
                    p { (standing(sheet)) }
                    div.charts {
                        (figure(&sheet.name, &charts::cost(sheet))?)
                        (figure(&sheet.name, &charts::latency(sheet))?)
                    }
                    (tables::sheet(sheet))
                }
            }
        }
    })
}

/// How greenring stands on a sheet, in one sentence.
fn standing(sheet: &Sheet) -> String {
    let measure = Measure::cost(sheet);
    let best = |side| {
        let (row, figure) = sides::lowest(sheet, side, |row| measure.figure(row))?;
        let figure = match measure {
            Measure::OfGen => format!("{} of gen", figures::ratio(figure)),
            _ => format!("{} of CPU time", figures::time(figure)),
        };
        Some(format!("{} ({figure})", row.server))
    };
    let none = || "none that was measured".to_owned();
    format!(
        "The best row of greenring is {}, the best other runtime {}.",
        best(Side::Greenring).unwrap_or_else(none),
        best(Side::Runtime).unwrap_or_else(none),
    )
}

/// Of the sheet with the most connections that tells.
fn memory(report: &Report) -> io::Result<Markup> {
    let charts = report.sheets.iter().filter_map(|sheet| {
        let chart = charts::memory(sheet)?;
        Some((sheet.connections, chart))
    });
    let chart = charts.reduce(|most, other| if other.0 > most.0 { other } else { most });
    Ok(html! {
        h2 id="memory" { "Memory per idle connection" }
        p {
            "What the server’s process gained per connection, each of which has had one request
             answered and waits for the next; without the kernel’s sockets."
        }
        @if let Some((_, chart)) = chart {
            div.charts { (figure("Memory per idle connection", &chart)?) }
        } @else {
            p { "Not measured in this run." }
        }
    })
}

/// What reads itself where a picture cannot be seen is the table beneath.
fn figure(subject: &str, chart: &Chart) -> io::Result<Markup> {
    let label = format!("{subject}: {}", chart.title);
    Ok(html! {
        figure role="img" aria-label=(label) { (PreEscaped(chart.svg()?)) }
    })
}

fn origin(report: &Report) -> Markup {
    let machine = &report.machine;
    let facts = [
        ("Date", report.date.clone()),
        ("Kernel", machine.kernel.clone()),
        ("CPU", format!("{}, {} of them", machine.cpu, machine.cpus)),
        (
            "Memory",
            format!("{} MiB", figures::grouped(machine.memory_mib as f64)),
        ),
        ("Compiler", machine.rustc.clone()),
        (
            "One getppid(2)",
            figures::or_missing(Some(machine.getppid_ns), |time| format!("{time:.0} ns")),
        ),
        (
            "send(2) + recv(2), 64 B",
            figures::or_missing(Some(machine.send_recv_ns), |time| format!("{time:.0} ns")),
        ),
        ("greenring", machine.greenring.clone()),
        ("Backend", machine.backend_reason.clone()),
    ];
    html! {
        h2 id="origin" { "Machine and command" }
        dl {
            @for (name, value) in facts { dt { (name) } dd { (value) } }
        }
        p { "To measure it again:" }
        pre { (report.command) }
    }
}
