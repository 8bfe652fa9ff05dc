//! What the README shows of a report: one chart and one table, of small requests
//! on more and more connections.

use std::fmt::Write as _;
use std::io;

use super::super::{Report, Row, Sheet};
use super::chart::Chart;
use super::charts;
use super::figures::{self, MISSING};
use super::palette::{FAINT, INK, MUTED, PAPER};
use super::pen::{self, BOLD, LEFT};
use super::sides::{self, Side};

const PANEL: u32 = 440;
const HEAD: u32 = 62;
const FOOT: u32 = 34;
const MARGIN: u32 = 12;

/// The sheets of the summary, by their connections.
pub fn sheets(report: &Report) -> Vec<&Sheet> {
    let is_small =
        |sheet: &&Sheet| sheet.payload == 64 && sheet.pipelining == 1 && !sheet.connect_per_request;
    let mut sheets: Vec<&Sheet> = report.sheets.iter().filter(is_small).collect();
    sheets.sort_by_key(|sheet| sheet.connections);
    sheets
}

/// A chart for each sheet of the summary, all on one scale.
pub fn charts(report: &Report) -> Vec<Chart> {
    let sheets = sheets(report);
    let axis = charts::ratio_axis(sheets.iter().copied());
    let chart = |sheet: &&Sheet| charts::ratio(sheet, connections(sheet), String::new(), axis);
    sheets.iter().map(chart).collect()
}

/// The charts of the summary side by side, on paper of their own: a picture that
/// stands alone, on a light page and on a dark one.
///
/// # Errors
///
/// The drawing fails.
pub fn svg(report: &Report) -> io::Result<String> {
    let charts = charts(report);
    let columns = charts.len().clamp(1, 2) as u32;
    let line = charts.iter().map(Chart::height).max().unwrap_or(40);
    let lines = charts.len().div_ceil(2).max(1) as u32;
    let width = (PANEL * columns + 2 * MARGIN).max(PANEL * 2);
    let height = HEAD + line * lines + FOOT;
    pen::draw((width, height), |area| {
        let (right, bottom) = (width as i32, height as i32);
        pen::fill(area, [(0, 0), (right, bottom)], &FAINT)?;
        pen::fill(area, [(1, 1), (right - 1, bottom - 1)], &PAPER)?;
        let left = MARGIN as i32 + 10;
        let title = "64-byte echo: CPU time per request, as a multiple of the limit";
        pen::write(area, title, (left, 24), &BOLD.of(19.0, &INK))?;
        let legend = "1.00 is a server hand-written on io_uring; less is better; \
                      whiskers: quartiles of the rounds";
        pen::write(area, legend, (left, 48), &LEFT.of(13.0, &MUTED))?;
        if charts.is_empty() {
            pen::write(area, "not measured", (left, 72), &LEFT.of(13.0, &INK))?;
        }
        let (_, body) = area.split_vertically(HEAD);
        let body = body.margin(0, FOOT, MARGIN, MARGIN);
        let panels = body.split_evenly((lines as usize, columns as usize));
        for (chart, panel) in charts.iter().zip(&panels) {
            chart.draw(panel)?;
        }
        let machine = &report.machine;
        let origin = format!(
            "{}: Linux {}, {}, {} rounds of {} s, greenring {}",
            report.date.split('T').next().unwrap_or_default(),
            machine.kernel.trim_start_matches("Linux "),
            machine.cpu,
            report.rounds,
            report.seconds,
            machine.greenring,
        );
        pen::write(area, &origin, (left, bottom - 16), &LEFT.of(12.0, &MUTED))
    })
}

/// The table of the summary, in Markdown: CPU time per request, and `of gen`.
pub fn table(report: &Report) -> String {
    let sheets = sheets(report);
    let mut servers: Vec<&str> = Vec::new();
    for row in sheets.iter().flat_map(|sheet| sides::by_side(sheet)) {
        if !servers.contains(&row.server.as_str()) {
            servers.push(&row.server);
        }
    }
    servers.sort_by_key(|server| Side::of(server));
    let mut table = String::from("| µs per request (of gen) |");
    for sheet in &sheets {
        // Writing to a string does not fail.
        let _ = write!(table, " {} |", connections(sheet));
    }
    table.push_str("\n|---|");
    table.push_str(&"---|".repeat(sheets.len()));
    for server in servers {
        let mark = if Side::of(server) == Side::Greenring {
            "**"
        } else {
            ""
        };
        let _ = write!(table, "\n| {mark}{}{mark} |", escape(server));
        for sheet in &sheets {
            let row = sheet.rows.iter().find(|row| row.server == server);
            let _ = write!(table, " {} |", row.map_or(MISSING.to_owned(), cell));
        }
    }
    table.push('\n');
    table
}

fn cell(row: &Row) -> String {
    if row.refused.is_some() {
        return "refused".to_owned();
    }
    let cost = sides::measured(row, &row.cpu_us_per_request).map(|spread| spread.median);
    let ratio = sides::measured(row, &row.of_gen).map(|spread| spread.median);
    format!(
        "{} ({})",
        figures::or_missing(cost, figures::microseconds),
        figures::or_missing(ratio, figures::ratio)
    )
}

fn connections(sheet: &Sheet) -> String {
    let plural = if sheet.connections == 1 { "" } else { "s" };
    let count = figures::grouped(sheet.connections as f64);
    format!("{count} connection{plural}")
}

/// What Markdown would take for markup in a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('_', "\\_")
}
